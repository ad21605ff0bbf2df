"""What a destination is called: whole in the attributes of a span, of few values in its name and in metrics.

The conventions build `{exchange}:{routing key}:{queue}`, leave empty parts out, and keep what is temporary, anonymous or of
many values out of names unless there is a template.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from . import semconv
from .metrics import Series
from .semconv import MessagingNames

MOST_KEYS = 100
"""Routing keys of one exchange that may stand in names; further ones stay out, whatever they look like."""

_POD_LETTERS = "[bcdfghjklmnpqrstvwxz2456789]"
_GENERATED = re.compile(
    r"^amq\.gen-|^amq_[0-9a-f]{32}$|^amq\.rabbitmq\.reply-to|[0-9a-f]{8}-[0-9a-f]{4}-|[0-9a-f]{12}|[0-9]{5}"
    r"|@|%40"  # a person's address
    r"|(?<![a-z0-9])[0-9]{4,}(?![a-z0-9])"  # a number, or the year of a date
    # a pod: letters that Kubernetes takes, or others with a digit
    rf"|-(?:{_POD_LETTERS}{{6,10}}-{_POD_LETTERS}{{5}}|(?=[a-z]*[0-9])[a-z0-9]{{8,10}}-[a-z0-9]{{5}})(?![a-z0-9])",
    re.IGNORECASE,
)
_ANONYMOUS = re.compile(r"^amq\.gen-|^amq_[0-9a-f]{32}$|^amq\.rabbitmq\.reply-to")
_log = logging.getLogger(__name__)


class Destination(NamedTuple):
    """Where a message goes to, or comes from."""

    operation: str
    """`send`, `process` or `receive`."""
    exchange: str
    routing_key: str
    queue: str | None = None
    """The queue that it was delivered from; None on a send, which knows of none."""
    exchange_type: str | None = None
    """None where this process has not declared the exchange."""
    is_temporary: bool = False
    """Whether the queue is exclusive to a connection."""

    @property
    def name(self) -> str:
        """The destination, whole."""
        queue = None if self.queue == self.routing_key else self.queue
        return ":".join(part for part in (self.exchange, self.routing_key, queue) if part)


class Template(NamedTuple):
    """The form of a destination that takes few values."""

    text: str
    is_temporary: bool = False
    """Whether destinations of this form live no longer than their connection."""
    peer: str | None = None
    """The service that takes what is sent there, where a destination is one instance's own: a backend that draws a node for
    each destination would draw one for each instance."""


DestinationTemplate = Callable[[Destination], "Template | str | None"]


class Described(NamedTuple):
    """What is written about a destination."""

    span_name: str
    label: str
    """The destination as names may hold it; empty where that is nothing."""
    attributes: dict[str, Any]
    """Those that all its spans share."""
    series: Series
    """The attributes of its metrics."""


class DestinationNames:
    """Describes destinations; each one once, as there are few of them and many messages."""

    def __init__(self, names: MessagingNames, template: DestinationTemplate | None = None) -> None:
        self._names = names
        self._template = template
        self._admitted: defaultdict[str, set[str]] = defaultdict(set)
        self.describe = lru_cache(maxsize=1024)(self._describe)

    def _describe(self, destination: Destination, address: str, port: int) -> Described:
        """Say what is written about a destination at a server."""
        operation = destination.operation
        template = self._template_of(destination)
        label = self._label(destination) if template is None else template.text
        common: dict[str, Any] = {
            **dict.fromkeys(self._names.system, "rabbitmq"),
            semconv.MESSAGING_OPERATION_NAME: operation,
            semconv.MESSAGING_OPERATION_TYPE: operation,
        }
        server = {semconv.SERVER_ADDRESS: address, semconv.SERVER_PORT: port}
        attributes = common | {semconv.MESSAGING_DESTINATION_NAME: destination.name} | server
        if destination.routing_key:
            attributes |= dict.fromkeys(self._names.routing_key, destination.routing_key)
        if destination.is_temporary or (template is not None and template.is_temporary):
            attributes[semconv.MESSAGING_DESTINATION_TEMPORARY] = True
        if _ANONYMOUS.search(destination.queue or ("" if destination.exchange else destination.routing_key)):
            attributes[semconv.MESSAGING_DESTINATION_ANONYMOUS] = True
        measured: dict[str, str] = {}
        if template is not None and template.peer and operation == "send":
            attributes[semconv.PEER_SERVICE] = template.peer
        if template is not None and template.text != destination.name:
            attributes[semconv.MESSAGING_DESTINATION_TEMPLATE] = template.text
            measured[semconv.MESSAGING_DESTINATION_TEMPLATE] = template.text
        elif label:
            measured[semconv.MESSAGING_DESTINATION_NAME] = label
        span_name = f"{operation} {label}" if label else operation
        return Described(span_name, label, attributes, Series(common | measured | server))

    def _template_of(self, destination: Destination) -> Template | None:
        if self._template is None:
            return None
        try:
            given = self._template(destination)
        except Exception:  # the application's, and no reason to lose a message
            _log.exception("the template of a destination failed")
            return None
        return Template(given) if isinstance(given, str) else given

    def _label(self, destination: Destination) -> str:
        """Give the parts of a name that take few values."""
        exchange, key, queue = destination.exchange, destination.routing_key, destination.queue
        parts = [exchange]
        if destination.exchange_type == "direct" and key != queue and not (queue and not exchange):
            parts.append(self._few(exchange, key))
        if queue and not destination.is_temporary:
            parts.append(self._few("queues", queue))
        return ":".join(part for part in parts if part and not _GENERATED.search(part))

    def _few(self, group: str, part: str) -> str:
        if _GENERATED.search(part):
            return ""
        admitted = self._admitted[group]
        if len(admitted) < MOST_KEYS:
            admitted.add(part)
        return part if part in admitted else ""
