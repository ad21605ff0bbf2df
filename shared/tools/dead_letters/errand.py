"""What can be done to a dead letter: it is dropped, or it is replayed, which sends it in again where it came from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from opentelemetry import trace

from shared.contract import topology
from shared.contract.envelope import message as new_message
from shared.telemetry import LinkReason, link_current_span, replay_of, semconv, span_context_of
from shared.tools.dead_letters.letter import DeadLetter, span_of_death
from shared.tools.dead_letters.letter_queue import Held, LetterQueue


@dataclass(frozen=True, slots=True)
class Errand:
    """What is done to a letter before it leaves its queue."""

    done: str
    """What it then is, in a word."""
    carry_out: Callable[[LetterQueue, Held], Awaitable[None]]
    can: Callable[[DeadLetter], bool]


async def _nothing(_: LetterQueue, __: Held) -> None:
    pass


async def _send_in_again(queue: LetterQueue, held: Held) -> None:
    """Write the message anew, with no failures counted, in a new trace that links to where it died.

    A check is answered to whichever API is there. A reply goes to whichever API takes it: it is no check, and its asker's own
    queue may be gone. A crash before the letter is settled replays it twice, and a check that comes twice takes its stock
    once.
    """
    properties, origin = held.message.header.properties, span_of_death(held.message)
    is_reply = held.letter.is_reply
    copy = new_message(
        held.message.body,
        type=properties.message_type or "",
        correlation_id=properties.correlation_id,
        reply_to=None if is_reply else topology.SHARED_REPLIES,
        relations=replay_of(origin),
    )
    tracer = trace.get_tracer("traced-orders", schema_url=semconv.SCHEMA_URL)
    with tracer.start_as_current_span(f"replay {topology.DEAD_LETTERS}"):
        # Not at the start: a sampler would then follow the trace in which it died, and a person who replays wants to see it.
        link_current_span(span_context_of(origin), LinkReason.REPLAY_OF)
        if is_reply:
            await queue.send("", topology.SHARED_REPLIES, copy)
        else:
            await queue.send(topology.ORDERS_EXCHANGE, topology.INVENTORY_CHECK, copy)


DROP = Errand("dropped", _nothing, lambda _: True)
REPLAY = Errand("replayed", _send_in_again, lambda letter: not letter.is_undecodable)
