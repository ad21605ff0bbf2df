"""What an application may say about its tracing: in a call, or by a variable where nobody touches its code."""

import logging
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aio_pika.abc import AbstractMessage
from opentelemetry.trace import Span

from .destinations import DestinationTemplate

_log = logging.getLogger(__name__)

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

    A variable that cannot be read is said and left aside. Raises TypeError for an argument that is no option, and ValueError
    for a relation that is none.
    """
    if unknown := [each for each in given if each not in VARIABLES]:
        raise TypeError(f"instrument() knows no argument {', '.join(map(repr, unknown))}")
    chosen: dict[str, Any] = {}
    for option, variable in VARIABLES.items():
        if given.get(option) is not None:
            chosen[option] = given[option]
        elif text := environ.get(variable, "").strip():
            try:
                chosen[option] = _PARSERS.get(option, pkgutil.resolve_name)(text)
            except Exception as error:  # whatever a module raises that is imported: tracing is no reason not to start
                default = getattr(TracingOptions(), option)
                _log.warning("%s=%s cannot be read (%s): %s is used", variable, text, error, default)
    if "relation" in chosen:
        chosen["relation"] = Relation(chosen["relation"])
    return TracingOptions(**chosen)


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("only true and false are values")
    return text.lower() == "true"


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "relation": lambda text: Relation(text.lower()),
    "settle_spans": _boolean,
}
