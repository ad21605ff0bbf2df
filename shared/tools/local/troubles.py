"""Nine orders and the trouble that each is in: what is done to the system around them, all of it from outside."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.contract.topology import MAX_REDELIVERIES
from shared.service.providers import start as start_telemetry
from shared.tools.dead_letters import work
from shared.tools.dead_letters.errand import REPLAY
from shared.tools.dead_letters.letter import DeadLetter
from shared.tools.local import faults
from shared.tools.local.launcher import START_SECONDS
from shared.tools.local.stack import Say, Stack, StackError
from shared.tools.order_client import Answer, OrderClient

REPLY_TIMEOUT = 8.0
"""Seconds that a request waits for its reply; after twice as long the relay asks again, and a worker has to be back by then."""
AWAY_SECONDS = 5.0
"""Longer than the worker waits for its database twice (2 s each), to commit and to find out whether it is away."""
VANISHING = MAX_REDELIVERIES + 1
"""Consumers that have to vanish over a check until the worker gives it up."""
OUTCOME_SECONDS = 30.0
MOST_DEAD_LETTERS = 1000
KILL_SECONDS = 1.0
"""Half of what the worker waits for its database: the time to kill it in the middle of a check."""
DECIDED_OR_NOT = (201, 202)
"""How an order is answered whose trouble may or may not be over in time."""


class Skipped(Exception):
    """A scenario that is not possible here; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Lab:
    """The stack that the orders are placed in, and who is told what is answered."""

    stack: Stack
    client: OrderClient
    say: Say

    def submit(self, order_id: str, items: Mapping[str, int], *, expected: tuple[int, ...] = (201,)) -> str:
        """Place an order and give the id of its trace; raises StackError unless the answer is an expected one."""
        answer = self.client.submit(dict(items), order_id)
        wanted = ", ".join(f"{quantity} x {sku}" for sku, quantity in items.items())
        self._tell(f"POST /orders {order_id}: {wanted}", answer)
        if answer.status not in expected or answer.trace_id is None:
            wanted_status = " or ".join(map(str, expected))
            raise StackError(f"The order {order_id} was answered {answer.status} rather than {wanted_status}.")
        return answer.trace_id

    def wait_until_stored(self, order_id: str) -> None:
        """Wait until an order that is being placed is stored: its check is published next."""
        faults.wait_until(lambda: self.client.look(order_id).status == 200, f"The order {order_id} was not stored.")

    def wait_while(self, order_id: str, status: str) -> None:
        """Wait until an order has another status."""
        self._tell(f"GET /orders/{order_id}", self.client.wait_while(order_id, status, OUTCOME_SECONDS))

    def worker_has_said(self, text: str) -> bool:
        """Tell whether the worker's log holds a text."""
        return text in (self.stack.logs / "inventory-worker.log").read_text()

    def restart_worker(self) -> None:
        """Start the worker again, after it was killed."""
        self.stack.worker.start()
        self.stack.worker.wait_until_ready(START_SECONDS)

    def _tell(self, request: str, answer: Answer) -> None:
        self.say(f"{request} → {answer.status} {answer.body.get('status')}")


def succeed(lab: Lab) -> str:
    """Place an order that nothing happens to."""
    return lab.submit("SUCCESS", {"widget": 1})


def run_out_of_stock(lab: Lab) -> str:
    """Place an order for more than there is."""
    return lab.submit("TOO-MANY", {"gadget": 5})


def repeat(lab: Lab) -> str:
    """Place the same order twice, and give the trace of the second time."""
    lab.submit("TWICE", {"widget": 1})
    return lab.submit("TWICE", {"widget": 1}, expected=(200,))


def answer_late(lab: Lab) -> str:
    """Stop the worker until the request has given up."""
    with lab.stack.worker.paused():
        trace_id = lab.submit("LATE", {"widget": 1}, expected=(202,))
    lab.wait_while("LATE", "pending")
    return trace_id


def kill_worker(lab: Lab) -> str:
    """Kill the worker while it holds the check, and start it again."""
    with ThreadPoolExecutor(1) as pool:
        with faults.locked(lab.stack.worker_database):
            placing = pool.submit(lab.submit, "KILLED", {"widget": 1}, expected=DECIDED_OR_NOT)
            lab.wait_until_stored("KILLED")
            time.sleep(KILL_SECONDS)
            lab.stack.worker.kill()
        lab.say("the worker is killed, and started again")
        lab.restart_worker()
        trace_id = placing.result()
    lab.wait_while("KILLED", "pending")
    return trace_id


def take_database_away(lab: Lab) -> str:
    """Keep the worker from its database until it says that it is away, and for a while after."""
    with ThreadPoolExecutor(1) as pool:
        with faults.locked(lab.stack.worker_database):
            placing = pool.submit(lab.submit, "AWAY", {"widget": 1}, expected=DECIDED_OR_NOT)
            lab.wait_until_stored("AWAY")
            time.sleep(AWAY_SECONDS)
        trace_id = placing.result()
    lab.wait_while("AWAY", "pending")
    return trace_id


def refuse_gadgets(lab: Lab) -> str:
    """Have the worker's database refuse the stock of one SKU until an attempt has failed, while another order succeeds."""
    with ThreadPoolExecutor(1) as pool:
        with faults.refusing(lab.stack.worker_database, "gadget"):
            placing = pool.submit(lab.submit, "REFUSED", {"gadget": 1}, expected=DECIDED_OR_NOT)
            faults.wait_until(lambda: lab.worker_has_said("attempt 1 failed"), "The worker did not fail at the check.")
            lab.submit("BESIDE", {"widget": 1})
        trace_id = placing.result()
    lab.wait_while("REFUSED", "pending")
    return trace_id


def poison(lab: Lab) -> str:
    """Let consumers vanish over a check until it is a dead letter, then replay it."""
    lab.stack.worker.kill()
    with ThreadPoolExecutor(1) as pool:
        placing = pool.submit(lab.submit, "POISON", {"widget": 1}, expected=DECIDED_OR_NOT)
        # The worker is back before the last of them vanishes, so that it is the next in line.
        faults.take_and_vanish(lab.stack.broker.amqp_url, "POISON", VANISHING, before_last=lab.restart_worker)
        trace_id = placing.result()
    lab.wait_while("POISON", "pending")
    _replay(lab, trace_id)
    lab.wait_while("POISON", "error")
    return trace_id


def _replay(lab: Lab, trace_id: str) -> None:
    """Replay what died in a trace, as `orders dead-letters replay` does and under the same name."""
    amqp_url = lab.stack.broker.amqp_url
    found: list[DeadLetter] = []
    asyncio.run(work.look(amqp_url, MOST_DEAD_LETTERS, found.append))
    died = [letter for letter in found if letter.trace_id == trace_id]
    for letter in died:
        lab.say(f"dead letter {letter.id[:8]}: {letter.reason}, {letter.attempts} attempts; it is replayed")
    telemetry = start_telemetry("orders-cli", lab.stack.telemetry, lab.stack.environment)
    try:
        asyncio.run(work.run_for_named(amqp_url, REPLAY, [letter.id for letter in died], lambda _: None))
    finally:
        telemetry.shutdown()


def kill_broker(lab: Lab) -> str:
    """Kill the broker, place an order, and start the broker again."""
    node = lab.stack.broker.node
    if node is None:
        raise Skipped(f"Skipped: it kills the broker, and {lab.stack.broker.description} is not a node started here.")
    with faults.killed(node):
        faults.wait_until(lambda: not lab.stack.api.is_ready(), "The order API did not notice that the broker is away.")
        trace_id = lab.submit("NO-BROKER", {"widget": 1}, expected=(202,))
    lab.say("the broker is started again")
    lab.wait_while("NO-BROKER", "pending")
    return trace_id
