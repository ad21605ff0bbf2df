"""What a list of traces is narrowed down to: read from its address, so that a list can be sent to a colleague."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from urllib.parse import urlencode

from opentelemetry.proto.trace.v1 import trace_pb2 as otlp
from starlette.exceptions import HTTPException

from shared.telemetry.semconv import LINK_REASON
from shared.tools.receiver.record import Shelf, TraceRecord, TraceSummary
from shared.tools.receiver.trace_store import TraceStore
from shared.tools.traces.otlp import decode_attributes

_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; an empty text is no condition."""

    service: str = ""
    outcome: str = ""
    reason: str = ""
    """Of a link of one of its spans."""
    error: str = ""
    """`yes` or `no`."""
    attribute: str = ""
    """`key=value`, or a key alone."""
    min_ms: str = ""
    since: str = ""
    """Local time, as a browser's field gives it."""
    until: str = ""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "Wanted":
        """Read it from an address. Raises HTTPException 422."""
        wanted = cls(**{field.name: query.get(field.name, "").strip()[:_LONGEST] for field in fields(cls)})
        if wanted.min_ms and not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", wanted.min_ms):
            raise HTTPException(422, "the minimum duration must be a number of milliseconds")
        for name in ("since", "until"):
            _nanoseconds(getattr(wanted, name), name)
        return wanted

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    @property
    def given(self) -> dict[str, str]:
        """The conditions, for an address."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}

    def address(self, **more: str) -> str:
        """The address of the list, with further parameters."""
        query = urlencode({**self.given, **more})
        return f"/?{query}" if query else "/"

    def admits(self, summary: TraceSummary, record: TraceRecord) -> bool:
        """Tell whether a trace is looked for; its spans are decoded only where the summary does not tell."""
        has_failed = summary.errors > 0
        since, until = _nanoseconds(self.since, "since"), _nanoseconds(self.until, "until")
        return (
            (not self.service or self.service in summary.services)
            and (not self.outcome or self.outcome in (summary.order_status, str(summary.http_status or "")))
            and (not self.error or (self.error == "yes") is has_failed)
            and (not self.min_ms or summary.duration_ms >= float(self.min_ms))
            and (since is None or summary.start_ns >= since)
            and (until is None or summary.start_ns <= until)
            and (not self.reason or any(self._is_reason(span) for span in _holding(record, self.reason)))
            and (not self.attribute or any(self._has_attribute(span) for span in _holding(record, *self._texts)))
        )

    @property
    def _texts(self) -> list[str]:
        """What the bytes of a span with the attribute hold: its key, and a value that is no number or flag."""
        key, _, value = (part.strip() for part in self.attribute.partition("="))
        is_text = value and value not in ("true", "false") and not re.fullmatch(r"[-\d.e]+", value) and value[0] != "["
        return [key, value] if is_text else [key]

    def _is_reason(self, span: otlp.Span) -> bool:
        return any(decode_attributes(link.attributes).get(LINK_REASON) == self.reason for link in span.links)

    def _has_attribute(self, span: otlp.Span) -> bool:
        key, equals, value = (part.strip() for part in self.attribute.partition("="))
        found = decode_attributes(span.attributes).get(key)
        if found is None:
            return False
        text = str(found).lower() if isinstance(found, bool) else str(found)
        return not equals or text == value


def find(
    traces: TraceStore, wanted: Wanted, limit: int, shelf: Shelf, before: tuple[int, str] | None
) -> list[TraceSummary]:
    """Summaries of the newest traces of a shelf that are looked for, after `before` as in `TraceStore.latest`."""
    found: list[TraceSummary] = []
    for trace_id, record in traces.newest_records(shelf, len(traces), before):
        summary = record.summary(trace_id)
        if wanted.admits(summary, record):
            found.append(summary)
            if len(found) == limit:
                break
    return found


def _holding(record: TraceRecord, *texts: str) -> Iterator[otlp.Span]:
    """The spans of a trace that hold texts somewhere: cheaper to see in their bytes than to decode them all."""
    needles = [text.encode() for text in texts]
    for _, encoded in record.spans.values():
        if all(needle in encoded for needle in needles):
            yield otlp.Span.FromString(encoded)


def _nanoseconds(local: str, name: str) -> int | None:
    """A local time in nanoseconds since the epoch. Raises HTTPException 422."""
    if not local:
        return None
    try:
        return int(datetime.fromisoformat(local).astimezone().timestamp() * 1e9)
    except (ValueError, OverflowError, OSError):
        raise HTTPException(422, f"{name} must be a time such as 2026-01-31T12:00") from None
