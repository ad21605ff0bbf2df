"""One dead letter as people see it: which order, why and where it died, and an id that can be typed."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiormq.abc import DeliveredMessage

from shared.contract.envelope import BROKERS_COUNTS, PUBLISHED_AT_HEADER, read_death
from shared.contract.messages import InventoryDecision
from shared.contract.topology import DELIVERY_LIMIT, REPLY_QUEUE_PREFIX
from shared.rabbit.decoding import defect_of
from shared.telemetry import died_in, redact_text, trace_id_of

SHOWN_BODY = 2000
"""Characters of a body that are shown."""
SHOWN_TEXT = 300
"""Characters of anything else: a stranger's header may be as long as a frame."""

_TYPEABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody could handle, and why."""

    id: str
    """Its message id, or where it has none that can be typed its digest."""
    digest: str
    """Of all that its sender wrote: it tells letters apart that share an id."""
    order_id: str | None
    reason: str
    detail: str
    origin: str
    attempts: int | None
    died_at: str | None
    trace_id: str | None
    type: str | None
    body: str
    is_undecodable: bool = False
    """Whether its properties are beyond reading: nothing but its body is known, and it cannot be sent in again."""

    @property
    def is_reply(self) -> bool:
        """Whether it is a worker's reply to an API, and not a check."""
        return self.type == InventoryDecision.TYPE or self.origin.startswith(REPLY_QUEUE_PREFIX)


def is_typeable(text: str) -> bool:
    """Tell whether a text can be an id: visible, without quotes or spaces, no option, and not empty."""
    return _TYPEABLE.fullmatch(text) is not None


def describe(message: DeliveredMessage) -> DeadLetter:
    """Read a dead letter without trust: what is not as it should be is not there."""
    properties, digest = message.header.properties, _digest(message)
    message_id = properties.message_id or ""
    if defect := defect_of(message):
        return DeadLetter(
            id=digest,
            digest=digest,
            order_id=None,
            reason=defect.code,
            detail=_short(defect.detail) or "",
            origin="unknown",
            attempts=None,
            died_at=None,
            trace_id=None,
            type=None,
            body=_shown(message),
            is_undecodable=True,
        )
    headers = properties.headers or {}
    death = read_death(headers)
    return DeadLetter(
        id=message_id if is_typeable(message_id) else digest,
        digest=digest,
        order_id=_short(properties.correlation_id),
        reason=_short(death.reason) or "unknown",
        detail=_short(death.detail) or "",
        origin=_short(death.origin) or "unknown",
        # Where it was the broker that gave up on it, its limit is what was reached.
        attempts=DELIVERY_LIMIT if death.attempts is None else death.attempts,
        died_at=_time(headers.get(PUBLISHED_AT_HEADER)),
        trace_id=trace_id_of(span_of_death(message)),
        type=_short(properties.message_type),
        body=_shown(message),
    )


def span_of_death(message: DeliveredMessage) -> str | None:
    """Give the traceparent of the span in which it died; None for one that never was in a trace."""
    return died_in(message.header.properties.headers or {})


def _digest(message: DeliveredMessage) -> str:
    properties: dict[str, Any] = dict(message.header.properties)
    headers = properties.pop("headers") or {}
    written = {name: value for name, value in headers.items() if name not in BROKERS_COUNTS}
    text = json.dumps([properties, written], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode(errors="backslashreplace") + b"\0" + message.body).hexdigest()[:32]


def _short(text: str | None) -> str | None:
    return None if text is None else redact_text(text)[:SHOWN_TEXT]


def _shown(message: DeliveredMessage) -> str:
    # Searched only as far as it may be shown, though addresses become shorter: megabytes would take seconds.
    looked_at = message.body[: 16 * SHOWN_BODY].decode(errors="backslashreplace")
    return redact_text(looked_at)[:SHOWN_BODY]


def _time(microseconds: Any) -> str | None:
    if type(microseconds) is not int or not 0 < microseconds < 2**53:
        return None
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")
