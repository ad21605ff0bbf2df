"""The traces of a run: connected and whole, but for what a killed process took with it, which is counted.

A process that gets SIGKILL loses the spans that are open at that moment and those that ended but were not exported yet.
Nothing else may be missing: not after SIGTERM, not with the broker or the connections gone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.trace import format_span_id

from shared.telemetry.trace_context import span_context_of, trace_id_of
from shared.tools.traces.model import Span
from tests.torture.accounts import Check
from tests.torture.customers import Answer, Wish
from tests.torture.plant import INVENTORY_WORKER, ORDER_API, Life, Slot
from tests.torture.witness import Books

SECOND = 1_000_000_000
EXPORT_SECONDS = 2.5
"""From the end of a span until it is exported: the batch's delay, its way, and a pause of 1.5 s in between."""
LONGEST_SEND = 5.0
"""Seconds: the deadline of a publish and a pause."""
LONGEST_PROCESS = 10.0
"""Seconds: two deadlines of the database, two of a publish, and a pause."""

REQUEST, PUBLISH, DELIVERY, MEMBER = "requests", "publishes", "deliveries", "members of a commit"
PROCESS_CHECK = "process orders:inventory.check"


class Traces:
    """Every span that arrived, and the lives of the processes that they came from."""

    def __init__(self, spans: Iterable[Span], lives: Sequence[Life], slots: Sequence[Slot], books: Books) -> None:
        self.spans = {span.span_id: span for span in spans}
        self._lives = lives
        self._slots = {slot.name: slot for slot in slots}
        self._books = books
        self._by_trace: dict[str, list[Span]] = defaultdict(list)
        for span in self.spans.values():
            self._by_trace[span.trace_id].append(span)
        self._orders_by_server_span = {
            format_span_id(context.span_id): order
            for order in books.orders.values()
            if (context := span_context_of(order["traceparent"])) is not None
        }
        self._decisions_by_process_span = {
            format_span_id(context.span_id): decision
            for decision in books.decisions.values()
            if (context := span_context_of(decision["traceparent"])) is not None
        }
        self._answered: dict[str, Answer] = {}
        self.lost: dict[str, str] = {}
        """Spans that must have been and are not there, and what they were; each went with a killed process."""
        self.longest_lag = 0.0
        """Seconds between the last that is known of a lost span and the kill, at most."""

    def check(self, wishes: Sequence[Wish]) -> list[Check]:
        """Check every order's trace."""
        self._answered = {answer.trace_id: answer for wish in wishes for answer in wish.answers if answer.trace_id}
        children = [span for span in self.spans.values() if span.parent_span_id]
        links = [(span, link) for span in self.spans.values() for link in span.links]
        return [
            Check("every order names its trace", len(self._books.orders), list(self._untraced())),
            Check("every answer has its request's span", len(self._answered), list(self._without_server_span())),
            Check("every span has its parent", len(children), list(self._orphans(children))),
            Check("every link leads to a span", len(links), list(self._dangling(links))),
            Check("an order is decided in its own trace", len(self._books.decisions), list(self._elsewhere())),
            Check("every decision's span is there", len(self._books.decisions), list(self._undecided())),
            Check("one reply brought the outcome", len(self._books.orders), list(self._not_one_reply())),
        ]

    @property
    def lost_by_kind(self) -> Counter[str]:
        """Count the spans that went with killed processes."""
        return Counter(self.lost.values())

    def _untraced(self) -> Iterator[str]:
        for order_id, order in self._books.orders.items():
            if span_context_of(order["traceparent"]) is None:
                yield order_id

    def _without_server_span(self) -> Iterator[str]:
        for trace_id, answer in self._answered.items():
            if any(span.kind == "SERVER" for span in self._by_trace[trace_id]):
                continue
            if not self._answer_went(trace_id, answer):
                lives = self._slots[answer.slot].lives
                yield f"trace {trace_id}, answered by {answer.slot}, {_kills(lives, answer.ended_ns)}"

    def _orphans(self, children: Iterable[Span]) -> Iterator[str]:
        for span in children:
            assert span.parent_span_id
            if span.parent_span_id not in self.spans and not self._parent_went(span, span.parent_span_id):
                yield _told(span)

    def _parent_went(self, child: Span, missing: str) -> bool:
        if missing in self._orders_by_server_span:
            return self._server_span_went(self._orders_by_server_span[missing])
        if child.kind == "CONSUMER":
            # Its message was made just before the span of its publish began.
            waited = float(str(child.attributes.get("delivery.queue_wait_ms", 0)))
            published_ns = child.start_ns - int(waited * 1e6)
            senders = {INVENTORY_WORKER} if child.service == ORDER_API else {ORDER_API, INVENTORY_WORKER}
            lives = [life for life in self._lives if life.service in senders]
            return self._went(missing, PUBLISH, lives, published_ns, LONGEST_SEND + EXPORT_SECONDS)
        # A parent in the same process, which was open when its child began.
        return self._went(missing, DELIVERY, self._of(child), child.start_ns, LONGEST_PROCESS + EXPORT_SECONDS)

    def _server_span_went(self, order: Mapping[str, Any]) -> bool:
        """Tell whether the request that placed an order went with its process, while it was open or just after."""
        trace_id = trace_id_of(order["traceparent"])
        assert trace_id is not None
        if trace_id in self._answered:
            return self._answer_went(trace_id, self._answered[trace_id])
        apis = [life for life in self._lives if life.service == ORDER_API]
        placed_ns = int(order["created_at"] * 1e9)
        return self._went(f"request of {trace_id}", REQUEST, apis, placed_ns, LONGEST_PROCESS + EXPORT_SECONDS)

    def _answer_went(self, trace_id: str, answer: Answer) -> bool:
        within = (answer.ended_ns - answer.sent_ns) / SECOND + EXPORT_SECONDS
        lives = self._slots[answer.slot].lives
        return self._went(f"request of {trace_id}", REQUEST, lives, answer.sent_ns, within)

    def _dangling(self, links: Iterable[tuple[Span, Any]]) -> Iterator[str]:
        for span, link in links:
            target, reason = link.span_id, link.attributes.get("link.reason")
            if target in self.spans or target in self.lost:
                continue
            if target in self._orders_by_server_span:
                went = self._server_span_went(self._orders_by_server_span[target])
            elif target in self._decisions_by_process_span:
                went = self._process_span_went(target, self._decisions_by_process_span[target])
            else:  # a span of the same process, that was open when the link was made
                lasts = LONGEST_PROCESS + EXPORT_SECONDS
                went = self._went(target, MEMBER, self._of(span), span.start_ns, lasts)
            if not went:
                yield f"{reason} of {_told(span)} to {target}"

    def _elsewhere(self) -> Iterator[str]:
        for order_id, decision in self._books.decisions.items():
            order = self._books.orders.get(order_id)
            placed = span_context_of(order["traceparent"]) if order else None
            decided = span_context_of(decision["traceparent"])
            if placed is None or decided is None or placed.trace_id != decided.trace_id:
                yield f"{order_id}: placed in {order and order['traceparent']}, decided in {decision['traceparent']}"

    def _undecided(self) -> Iterator[str]:
        for span_id, decision in self._decisions_by_process_span.items():
            if span_id not in self.spans and not self._process_span_went(span_id, decision):
                yield f"{decision['order_id']}: no {PROCESS_CHECK} {span_id}"

    def _process_span_went(self, span_id: str, decision: Mapping[str, Any]) -> bool:
        workers = [life for life in self._lives if life.service == INVENTORY_WORKER]
        decided_ns = int(decision["decided_at"] * 1e9)
        return self._went(span_id, DELIVERY, workers, decided_ns, LONGEST_PROCESS + EXPORT_SECONDS)

    def _not_one_reply(self) -> Iterator[str]:
        """Look for orders whose outcome came with no reply, or with two, in their trace."""
        apis = [life for life in self._lives if life.service == ORDER_API]
        for span_id, order in self._orders_by_server_span.items():
            trace_id = trace_id_of(order["traceparent"])
            assert trace_id is not None
            replies = [span for span in self._by_trace[trace_id] if "process order-api.replies" in span.name]
            found = [span for span in replies if span.attributes.get("delivery.reply") in {"matched", "late"}]
            if len(found) == 1 or order["decided_at"] is None:
                continue
            decided_ns = int(order["decided_at"] * 1e9)
            reply = f"reply for {span_id}"
            if found or not self._went(reply, DELIVERY, apis, decided_ns, LONGEST_PROCESS + EXPORT_SECONDS):
                yield f"{order['order_id']}: {len(found)} replies brought the outcome"

    def _of(self, span: Span) -> list[Life]:
        return [life for life in self._lives if life.instance == span.resource["service.instance.id"]]

    def _went(self, span_id: str, kind: str, lives: Iterable[Life], known_ns: int, within: float) -> bool:
        """Tell whether one of these processes got SIGKILL in time to take a span with it that was there at `known_ns`."""
        if span_id in self.lost:
            return True
        for life in lives:
            if life.killed_ns is None or known_ns < life.started_ns:
                continue
            # The signal is sent a moment before its time is taken.
            lag = (life.killed_ns - known_ns) / SECOND
            if -0.01 <= lag <= within:
                self.longest_lag = max(self.longest_lag, lag)
                self.lost[span_id] = kind
                return True
        return False


def _told(span: Span) -> str:
    instance = span.resource.get("service.instance.id")
    return f"{span.name} {span.span_id} in trace {span.trace_id} of {instance}, parent {span.parent_span_id}"


def _kills(lives: Iterable[Life], known_ns: int) -> str:
    """Say when processes were killed, in seconds from a time."""
    kills = [(life.killed_ns - known_ns) / SECOND for life in lives if life.killed_ns is not None]
    return f"killed {', '.join(f'{kill:+.2f} s' for kill in kills)}" if kills else "never killed"
