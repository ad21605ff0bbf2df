"""What is measured in turns: this system in several settings, and others that do less."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks import systems
from benchmarks.systems import System

FEW = (1, 64, 256)


@dataclass(frozen=True)
class Contender:
    """A system to be measured."""

    name: str
    system: System
    parts: int
    """Spans of an order, those of transactions left out."""
    environment: Mapping[str, str] = field(default_factory=dict)
    only_at: tuple[int, ...] | None = None
    """Numbers of connections to measure it at, where those are not all."""


PRODUCT = Contender("traced orders", systems.product, 5)
VERBOSE = Contender("traced orders, LOG_LEVEL=INFO", systems.product, 5, {"LOG_LEVEL": "INFO"}, (64,))
SAMPLED = Contender(
    "traced orders, 1 % sampled",
    systems.product,
    5,
    {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
    FEW,
)
NO_TRACES = Contender("traced orders, metrics and logs only", systems.product, 0, {"OTEL_TRACES_EXPORTER": "none"}, FEW)
UNTRACED = Contender("traced orders, untraced", systems.product, 0, {"OTEL_SDK_DISABLED": "true"})
FLOOR = Contender("the floor: every promise and span, bare libraries", systems.floor, 5)
RPC = Contender("patterns.RPC, traced; no promise", systems.rpc, 5)
TUTORIAL = Contender("tutorial's HTTP pair, traced; no promise", systems.tutorial, 3, only_at=FEW)

ALL = (UNTRACED, PRODUCT, FLOOR, RPC, TUTORIAL, VERBOSE, NO_TRACES, SAMPLED)
"""In the order of their turns: those next to each other that are set against each other."""
