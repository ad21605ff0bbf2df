"""Resources and scopes, decoded once: every export of a service repeats the same few."""

from collections.abc import Iterable

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from shared.tools.traces.otlp import Origin, decode_origin

_MOST = 256


class Origins:
    """A cache from the encoded resource and scope to what they decode to; it starts over when it is full."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str], Origin] = {}

    def known(self) -> Iterable[Origin]:
        """Those in the cache."""
        return self._known.values()

    def of(self, resource: Resource, scope: InstrumentationScope) -> Origin:
        """The origin, the same object for the same resource and scope name."""
        key = (resource.SerializeToString(), scope.name)
        origin = self._known.get(key)
        if origin is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            origin = self._known[key] = decode_origin(resource, scope)
        return origin
