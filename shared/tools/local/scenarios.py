"""The scenarios: what happens in each, what to look at, and what its trace has to show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.contract.topology import DEAD_LETTERS
from shared.telemetry import semconv
from shared.telemetry.semconv import LINK_REASON, LinkReason
from shared.tools.local import troubles
from shared.tools.local.troubles import Lab
from shared.tools.traces.model import AttributeValue, Span
from shared.tools.traces.readback import Trace
from shared.tracing import names

CHECK = "process orders:inventory.check"
REPLY = "process order-api.replies.{instance}"
ATTEMPT = (semconv.DELIVERY_ATTEMPT, semconv.DELIVERY_REDELIVERED, semconv.DELIVERY_OUTCOME)


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A trace to show, and what it has to show."""

    span: str
    """The name of the spans whose attributes tell the story."""
    has: Mapping[str, AttributeValue] = field(default_factory=dict)
    """Attributes that one of these spans has."""
    links: LinkReason | None = None
    """Why one of its spans links to another."""
    linked: int = 3
    """Spans of other traces that link into it, at least: an order is stored, decided on and recorded by a group commit each."""
    linked_by: LinkReason | None = None
    """Why one of these links into it."""
    tells: tuple[str, ...] = ()
    """Attributes to print."""

    def is_shown_by(self, trace: Trace) -> bool:
        """Tell whether the trace has arrived whole and shows what it should."""
        return (
            is_settled(trace)
            and len(trace.linked) >= self.linked
            and (self.links is None or self.links in _reasons(trace.spans))
            and (self.linked_by is None or self.linked_by in _reasons(trace.linked))
            and any(self.has.items() <= span.attributes.items() for span in self.spans_of(trace))
        )

    def spans_of(self, trace: Trace) -> list[Span]:
        """Give the spans that tell the story, in order of time."""
        return sorted((span for span in trace.spans if span.name == self.span), key=lambda span: span.start_ns)


@dataclass(frozen=True, slots=True)
class Scenario:
    """An order in trouble."""

    title: str
    happens: str
    look_at: str
    play: Callable[[Lab], str]
    """Places the order, makes the trouble, and gives the id of the trace to show."""
    exhibit: Exhibit
    replay: Exhibit | None = None
    """The trace of the replay that links to the first one, where there is one."""


def is_settled(trace: Trace) -> bool:
    """Tell whether every parent and link target within the trace has arrived, and every message but a dead letter was taken."""
    known = {span.span_id for span in trace.spans}
    received = {span.parent_span_id for span in trace.spans if span.kind == "CONSUMER"}
    return (
        all(span.parent_span_id is None or span.parent_span_id in known for span in trace.spans)
        and all(link.span_id in known for span in trace.spans for link in span.links if link.trace_id == trace.trace_id)
        and all(
            span.span_id in received or span.name == f"send {DEAD_LETTERS}"
            for span in trace.spans
            if span.kind == "PRODUCER"
        )
    )


def _reasons(spans: Sequence[Span]) -> set[AttributeValue | None]:
    return {link.attributes.get(LINK_REASON) for span in spans for link in span.links}


def replay_of(trace: Trace) -> str | None:
    """Find the trace of the replay of what died in a trace."""
    return next((span.trace_id for span in trace.linked if LinkReason.REPLAY_OF in _reasons([span])), None)


SCENARIOS = (
    Scenario(
        "Success",
        "Nothing goes wrong: the trace to compare the others with.",
        "everything hangs under one request. The request links to the reply that it waited for (reply); three group "
        "commits, each a trace of its own, link to the spans that they served (batch_member).",
        troubles.succeed,
        Exhibit(CHECK, {semconv.DELIVERY_ATTEMPT: 1}, LinkReason.REPLY, tells=ATTEMPT),
    ),
    Scenario(
        "Out of stock",
        "Five gadgets are ordered, and there are three.",
        "no span has failed: a refusal is an answer. It is in the attributes of the check's process span.",
        troubles.run_out_of_stock,
        Exhibit(
            CHECK,
            {names.INVENTORY_IN_STOCK: False, names.ORDER_STATUS: "out_of_stock"},
            LinkReason.REPLY,
            tells=(names.INVENTORY_IN_STOCK, names.ORDER_REASON),
        ),
    ),
    Scenario(
        "Duplicate",
        "The same order is placed twice; this is the trace of the second time.",
        "a request that sends nothing, and answers with the outcome of the first one: its link leads there (duplicate_of).",
        troubles.repeat,
        Exhibit(
            "POST /orders",
            {names.ORDER_STATUS: "success"},
            LinkReason.DUPLICATE_OF,
            linked=1,
            tells=(names.ORDER_ID, names.ORDER_STATUS),
        ),
    ),
    Scenario(
        "Late reply",
        "The worker is stopped (SIGSTOP) until the request has given up after 8 s, and then goes on.",
        "the request ends long before its reply, so it has no link to it; the reply links back to the request that it "
        "came too late for (late_reply_to). The dots are the time that the check waited.",
        troubles.answer_late,
        Exhibit(
            REPLY,
            {semconv.DELIVERY_REPLY: "late"},
            LinkReason.LATE_REPLY_TO,
            tells=(semconv.DELIVERY_REPLY, names.ORDER_STATUS),
        ),
    ),
    Scenario(
        "Redelivery after a kill",
        "The worker is killed (SIGKILL) in the middle of the check, and started again; the broker hands the check out anew.",
        "the process span is the second attempt, redelivered. The first one has no span: it died with its process "
        "before it could be exported, and the gap before the second is what is left of it.",
        troubles.kill_worker,
        Exhibit(
            CHECK,
            {semconv.DELIVERY_REDELIVERED: True, semconv.DELIVERY_OUTCOME: "ack"},
            tells=ATTEMPT,
        ),
    ),
    Scenario(
        "Retry after a locked database",
        "Somebody holds the lock of the worker's database for 3 s; the worker waits for it for 2 s at a time.",
        "the first attempt fails and sends the check to a retry queue, where it waits for 0.5 s. The second attempt is in "
        "the same trace and links to the first (previous_attempt). The failed commit is below.",
        troubles.lock_database,
        Exhibit(
            CHECK,
            {semconv.DELIVERY_OUTCOME: "retry", semconv.DELIVERY_ATTEMPT: 1},
            LinkReason.PREVIOUS_ATTEMPT,
            linked=4,
            tells=(semconv.DELIVERY_ATTEMPT, semconv.DELIVERY_OUTCOME, semconv.ERROR_TYPE),
        ),
    ),
    Scenario(
        "Poison to dead letter, and its replay",
        "Sixteen consumers in a row take the check and vanish. The worker does not try for ever: it makes a dead letter of "
        "it, and refuses the order. Then a person replays it.",
        "the check is sent to the dead letters, the order is told so (error). The replay is a new trace that links to the "
        "span in which the check died (replay_of); it takes the stock, and the order succeeds after all.",
        troubles.poison,
        Exhibit(
            CHECK,
            {semconv.DELIVERY_OUTCOME: "dead_letter", semconv.ERROR_TYPE: "too_many_attempts"},
            linked_by=LinkReason.REPLAY_OF,
            tells=(semconv.DELIVERY_ATTEMPT, semconv.DELIVERY_OUTCOME, semconv.ERROR_TYPE),
        ),
        replay=Exhibit(
            CHECK,
            {semconv.DELIVERY_OUTCOME: "ack", names.ORDER_STATUS: "success"},
            LinkReason.REPLAY_OF,
            linked=2,
            tells=(semconv.DELIVERY_ATTEMPT, semconv.DELIVERY_OUTCOME, names.ORDER_STATUS),
        ),
    ),
    Scenario(
        "Broker away",
        "The broker is killed (SIGKILL). An order is accepted all the same, and the broker is started again.",
        "the request ends at once and says in an event that the question is deferred. It is stored with its trace "
        "context, so the question that the relay asks later is in the same trace.",
        troubles.kill_broker,
        Exhibit(
            REPLY,
            {semconv.DELIVERY_REPLY: "late"},
            LinkReason.LATE_REPLY_TO,
            tells=(semconv.DELIVERY_REPLY, names.ORDER_STATUS),
        ),
    ),
)
