"""OTLP requests from their bytes, in protobuf or JSON: one item that cannot be read costs itself, not the batch.

Protobuf's parser refuses a whole request for one string that is no UTF-8, a client's cut-off name for instance. The requests of
all three signals are nested alike: by resource, by scope, then spans, log records or metrics.
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from google.protobuf.json_format import ParseDict, ParseError  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_IDS = frozenset({"traceId", "spanId", "parentSpanId"})
_OF_RESOURCE, _OF_SCOPE, _ITEMS = 1, 2, 2
"""The field numbers of what nests, from the request down."""

Request = TypeVar("Request", bound=Message)


class Unreadable(ValueError):
    """Not the message that is expected, as a whole."""


class Decoder(Generic[Request]):
    """Reads requests of one signal."""

    def __init__(self, request: type[Request], names: tuple[str, str, str]) -> None:
        self._request = request
        self._names = names
        """Of what nests, in JSON: such as resourceSpans, scopeSpans, spans."""

    def decode(self, body: bytes, content_type: str) -> tuple[Request, int]:
        """Give a request without its unreadable items, and how many these were. Raises Unreadable."""
        return self._from_json(body) if content_type == JSON else self._from_protobuf(body)

    def _from_protobuf(self, body: bytes) -> tuple[Request, int]:
        try:
            return self._request.FromString(body), 0
        except DecodeError:
            pass
        found = self._request()
        total = rejected = 0
        for of_resource in _fields(body, _OF_RESOURCE):
            group = getattr(found, found.DESCRIPTOR.fields_by_number[_OF_RESOURCE].name).add()
            _merge(group, "resource", next(_fields(of_resource, 1), b""))
            for of_scope in _fields(of_resource, _OF_SCOPE):
                scope = getattr(group, group.DESCRIPTOR.fields_by_number[_OF_SCOPE].name).add()
                _merge(scope, "scope", next(_fields(of_scope, 1), b""))
                items = getattr(scope, scope.DESCRIPTOR.fields_by_number[_ITEMS].name)
                for item in _fields(of_scope, _ITEMS):
                    total += 1
                    try:
                        items.add().MergeFromString(item)
                    except DecodeError:
                        rejected += 1
                        del items[-1]
        if not total:
            raise Unreadable("the body is not the protobuf message that this path takes")
        return found, rejected

    def _from_json(self, body: bytes) -> tuple[Request, int]:
        try:
            value = _with_base64_ids(json.loads(body))
        except (ValueError, RecursionError) as error:
            raise Unreadable("the body is not JSON") from error
        if not isinstance(value, dict):
            raise Unreadable("the body is not the OTLP JSON object that this path takes")
        try:
            return ParseDict(value, self._request(), ignore_unknown_fields=True), 0
        except (ParseError, UnicodeError):
            return self._by_item(value)

    def _by_item(self, value: dict[str, Any]) -> tuple[Request, int]:
        found, rejected = self._request(), 0
        outer, inner, items = self._names
        for of_resource in _objects(value.get(outer)):
            for of_scope in _objects(of_resource.get(inner)):
                for item in _objects(of_scope.get(items)):
                    alone = {outer: [{**of_resource, inner: [{**of_scope, items: [item]}]}]}
                    try:
                        found.MergeFrom(ParseDict(alone, self._request(), ignore_unknown_fields=True))
                    except (ParseError, UnicodeError):
                        rejected += 1
        if not found.ByteSize():
            raise Unreadable("the body is not the OTLP JSON object that this path takes")
        return found, rejected


def _merge(message: Message, field: str, encoded: bytes) -> None:
    """Take a part in where it can be read; without it what it describes is still worth having."""
    try:
        getattr(message, field).MergeFromString(encoded)
    except DecodeError:
        message.ClearField(field)


def _fields(encoded: bytes, wanted: int) -> Iterator[bytes]:
    """Give the contents of every field with a number; ends where the bytes make no sense."""
    place = 0
    while place < len(encoded):
        key, place = _varint(encoded, place)
        number, kind = key >> 3, key & 7
        if kind == _BYTES:
            length, place = _varint(encoded, place)
            if number == wanted and place + length <= len(encoded):
                yield encoded[place : place + length]
            place += length
        elif kind == _VARINT:
            _, place = _varint(encoded, place)
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            return


def _varint(encoded: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(encoded) and shift < 64:
        byte = encoded[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
    return 0, len(encoded)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _with_base64_ids(value: Any) -> Any:
    """Write the ids of OTLP/JSON, which are hexadecimal, as protobuf's JSON has bytes; what is no id becomes an empty one."""
    if isinstance(value, list):
        return [_with_base64_ids(each) for each in value]
    if isinstance(value, dict):
        return {
            key: _base64(each) if key in _IDS and isinstance(each, str) else _with_base64_ids(each)
            for key, each in value.items()
        }
    return value


def _base64(text: str) -> str:
    try:
        return b64encode(bytes.fromhex(text)).decode()
    except ValueError:
        return ""


TRACES = Decoder(ExportTraceServiceRequest, ("resourceSpans", "scopeSpans", "spans"))
LOGS = Decoder(ExportLogsServiceRequest, ("resourceLogs", "scopeLogs", "logRecords"))
METRICS = Decoder(ExportMetricsServiceRequest, ("resourceMetrics", "scopeMetrics", "metrics"))
