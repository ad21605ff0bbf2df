"""What went through the broker, seen from outside: every check that was published, dead letters, redeliveries, connections."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from shared.tools.local.rabbitmq_node import PrivateNode
from tests.system import VirtualHost
from tests.waiting import eventually

EXCHANGE = "orders"
CHECKS = "inventory.check"
DEAD_LETTERS = "inventory.check.dead"
REPLIES_PREFIX = "order-api.replies."
METER = "test.meter"
AT_A_TIME = 2000
RETRY_HEADERS = ("x-failures", "x-death")
"""A check that comes back from a retry queue passes the exchange once more, and carries one of these."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One check that was published; the time is that of the look that found it."""

    order_id: str
    is_retry: bool
    seen_at: float


class Meter:
    """A queue of the test's own, bound beside the one of the workers, and the broker's management interface."""

    def __init__(self, host: VirtualHost, node: PrivateNode) -> None:
        self._host = host
        self._node = node
        self.seen: list[Seen] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take part in what is published while the context lasts; the exchange must be there."""
        self._send("PUT", f"queues/{{}}/{METER}", {"durable": True})
        self._send("POST", f"bindings/{{}}/e/{EXCHANGE}/q/{METER}", {"routing_key": CHECKS})
        try:
            yield
        finally:
            self._send("DELETE", f"queues/{{}}/{METER}")

    def read(self) -> list[Seen]:
        """Take what was published since the last look, and give all that was ever seen."""
        while found := self._take(METER, AT_A_TIME, "ack_requeue_false"):
            now = time.monotonic()
            for message in found:
                headers = message["properties"].get("headers", {})
                is_retry = any(name in headers for name in RETRY_HEADERS)
                self.seen.append(Seen(_order_of(message), is_retry, now))
        return self.seen

    def forget(self) -> None:
        """Forget what was published so far."""
        self.read()
        self.seen.clear()

    def published(self) -> Counter[str]:
        """Count the checks that were published for each order, retries apart."""
        return Counter(each.order_id for each in self.read() if not each.is_retry)

    def retries(self) -> int:
        """Count the checks that came back from a retry queue."""
        return sum(each.is_retry for each in self.read())

    def dead_letters(self) -> list[str]:
        """Name the orders whose checks are dead letters."""
        return [_order_of(message) for message in self._take(DEAD_LETTERS, AT_A_TIME, "ack_requeue_true")]

    def queue(self, name: str) -> Mapping[str, Any]:
        """Give what the broker says of a queue; half a second old, or five where it is a count of a quorum queue."""
        found: Mapping[str, Any] = self._send("GET", f"queues/{{}}/{name}").json()
        return found

    def redelivered(self) -> int:
        """Count the deliveries of checks that were not the first of their message, since the broker started."""
        return int(self.queue(CHECKS).get("message_stats", {}).get("redeliver", 0))

    def reply_queues(self) -> dict[str, int]:
        """Give the reply queues of the APIs that are connected, and the messages in each."""
        found = self._send("GET", "queues/{}").json()
        own = (queue for queue in found if queue["name"].startswith(REPLIES_PREFIX))
        return {queue["name"]: queue.get("messages", 0) for queue in own if not queue["name"].endswith(".shared")}

    def connections_made(self) -> int:
        """Count the connections that the broker let into this virtual host so far."""
        return self._node.log.read_text(errors="replace").count(f"granted access to vhost '{self._host.name}'")

    def publish(
        self, routing_key: str, body: Any, properties: Mapping[str, Any], exchange: str = "amq.default"
    ) -> None:
        """Publish a message of the test's own."""
        message = {"routing_key": routing_key, "payload": json.dumps(body), "payload_encoding": "string"}
        content = {"content_type": "application/json", "delivery_mode": 2, **properties}
        answer = self._send("POST", f"exchanges/{{}}/{exchange}/publish", {**message, "properties": content})
        assert answer.json()["routed"], f"nobody takes a message to {routing_key}"

    def declare(self, queue: str, **arguments: Any) -> None:
        """Declare a durable queue."""
        self._send("PUT", f"queues/{{}}/{queue}", {"durable": True, "arguments": arguments})

    def take(self, queue: str) -> list[str]:
        """Take what is in a queue of the test's own, and name the orders that it is about."""
        return [_order_of(message) for message in self._take(queue, AT_A_TIME, "ack_requeue_false")]

    def _take(self, queue: str, count: int, ackmode: str) -> list[Any]:
        wanted = {"count": count, "ackmode": ackmode, "encoding": "auto"}
        found: list[Any] = self._send("POST", f"queues/{{}}/{queue}/get", wanted).json()
        return found

    def _send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        def answered() -> httpx.Response | None:
            try:
                return self._host.api.request(method, f"/{path.format(self._host.name)}", json=body)
            except httpx.TransportError:  # the node has just been started again, and its management not yet
                return None

        return eventually(answered, within=60, what="the management interface").raise_for_status()


def _order_of(message: Mapping[str, Any]) -> str:
    try:
        return str(json.loads(message["payload"])["order_id"])
    except (ValueError, KeyError, TypeError):
        return str(message["properties"].get("correlation_id"))
