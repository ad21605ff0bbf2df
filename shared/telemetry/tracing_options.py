"""What an application may say about its tracing: in a call, or by a variable where nobody touches its code."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aio_pika.abc import AbstractMessage
from opentelemetry.trace import Span

from .destinations import DestinationTemplate

Hook = Callable[[Span, AbstractMessage], None]
"""Called with a recorded span as it starts, and its message; what it raises is logged and costs no message."""

VARIABLES = {
    "relation": "OTEL_PYTHON_AIO_PIKA_RELATION",
    "destination_template": "OTEL_PYTHON_AIO_PIKA_DESTINATION_TEMPLATE",
    "publish_hook": "OTEL_PYTHON_AIO_PIKA_PUBLISH_HOOK",
    "consume_hook": "OTEL_PYTHON_AIO_PIKA_CONSUME_HOOK",
    "settle_spans": "OTEL_PYTHON_AIO_PIKA_SETTLE_SPANS",
}
"""The variable of each option; functions are named as `package.module:function`."""


class Relation(StrEnum):
    """How a process span is related to the span that sent its message."""

    BOTH = "both"
    """A child of it, in its trace, and linked to it."""
    CHILD = "child"
    LINK = "link"
    """The root of a trace of its own, linked to it."""


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """How messages are traced."""

    relation: Relation = Relation.BOTH
    destination_template: DestinationTemplate | None = None
    publish_hook: Hook | None = None
    consume_hook: Hook | None = None
    settle_spans: bool = False


def options_from(given: Mapping[str, Any], environ: Mapping[str, str]) -> TracingOptions:
    """Read the options: what was given in the call wins over the variables.

    Raises ValueError for a relation that is none, and what an import raises for a function that is not there.
    """
    chosen: dict[str, Any] = {}
    for option, variable in VARIABLES.items():
        if given.get(option) is not None:
            chosen[option] = given[option]
        elif text := environ.get(variable, "").strip():
            chosen[option] = _PARSERS.get(option, pkgutil.resolve_name)(text)
    if "relation" in chosen:
        chosen["relation"] = Relation(chosen["relation"])
    return TracingOptions(**chosen)


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "relation": str.lower,
    "settle_spans": lambda text: text.lower() == "true",
}
