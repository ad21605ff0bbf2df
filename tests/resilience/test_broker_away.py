"""The broker is away, or accepts nothing that is published: orders are accepted, each is asked for once, acks go on."""

import signal
import time
from contextlib import ExitStack
from functools import partial

import httpx

from tests.broker import wait_until_saved
from tests.resilience.drill import MESSAGES_AN_ORDER, PROMISED, Size, drill, long, sizes
from tests.resilience.meter import CHECKS, EXCHANGE
from tests.resilience.rabbitmqctl import memory_alarm
from tests.resilience.rig import Rig
from tests.system import Service, new_id, order_body
from tests.waiting import eventually

SLACK_SECONDS = 15.0
"""Beside the backlog: until services that look for the broker with growing pauses have found it."""
CONNECTIONS = 8
"""Two for each of two services, and as many again."""
BACKLOG = 20
NOTICE_SECONDS = 15.0


@sizes(Size(10, 40), long(60, 100))
def test_the_broker_is_killed_and_started_again_and_every_order_is_asked_for_once(rig: Rig, size: Size) -> None:
    """SIGKILL on the node: connections are reset, new ones refused, and what it had not confirmed may be gone."""
    rig.start_worker()
    rig.start_api()
    wait_until_saved(rig.node, host=rig.host.name)

    def fault() -> None:
        rig.node.kill()
        time.sleep(size.seconds)
        rig.node.restart()

    found = drill(rig, "broker away", size, fault)

    assert found.broken == {}
    assert set(found.codes) <= PROMISED
    assert found.row.messages_an_order <= MESSAGES_AN_ORDER
    assert found.row.dead_letters == 0
    assert found.row.connections <= CONNECTIONS
    found.assert_in_time(SLACK_SECONDS)


@sizes(Size(10, 20), long(30, 40))
def test_a_memory_alarm_stops_what_publishes_and_nothing_else(rig: Rig, size: Size) -> None:
    """The node reads no more from a connection as soon as that publishes: its acks and heartbeats would not be read either.

    When the alarm begins, replies wait that the API has not acked yet, and checks wait for a worker whose replies nobody will
    take.
    """
    worker = rig.start_worker()
    api = rig.start_api()
    replies = f"order-api.replies.{new_id('test')}"
    rig.meter.declare(replies)
    sent: list[str] = []
    both = (api.service, worker)

    def fault() -> None:
        with ExitStack() as alarm:
            with worker.paused(), ExitStack() as pause_of_api:
                time.sleep(1.0)
                pause_of_api.enter_context(api.service.paused())
                worker.signal(signal.SIGCONT)
                eventually(lambda: any(rig.meter.reply_queues().values()), what="replies that nobody has acked")
                worker.signal(signal.SIGSTOP)
                sent.extend(_publish_check(rig, replies) for _ in range(BACKLOG))
                alarm.enter_context(memory_alarm(rig.node))

            for service in both:
                eventually(partial(_says_blocked, service), within=NOTICE_SECONDS, what=f"{service.url}/ready")
            eventually(lambda: not any(rig.meter.reply_queues().values()), within=NOTICE_SECONDS, what="acked replies")
            answer = api.submit({"unicorn": 1})
            time.sleep(size.seconds)
            assert answer.status_code == 202
            assert [_get(service, "/health").status_code for service in both] == [200, 200]
            assert [_get(service, "/ready").status_code for service in both] == [503, 503]
        for service in both:
            service.wait_until_ready()

    found = drill(rig, "memory alarm", size, fault)

    assert found.broken == {}
    assert set(found.codes) <= PROMISED
    assert found.row.messages_an_order <= MESSAGES_AN_ORDER
    assert (found.row.dead_letters, found.row.connections, found.row.redelivered) == (0, 0, 0)
    found.assert_in_time(SLACK_SECONDS)
    assert sorted(set(rig.meter.take(replies))) == sorted(sent)


def _publish_check(rig: Rig, reply_to: str) -> str:
    """Ask the worker for what it does not have, so that it has to answer."""
    order_id = new_id()
    content = {"type": "inventory.check.v1", "correlation_id": order_id, "reply_to": reply_to}
    rig.meter.publish(CHECKS, order_body({"unicorn": 1}, order_id), content, exchange=EXCHANGE)
    return order_id


def _says_blocked(service: Service) -> bool:
    answer = _get(service, "/ready")
    return answer.status_code == 503 and "block" in answer.text.lower()


def _get(service: Service, path: str) -> httpx.Response:
    return httpx.get(f"{service.url}{path}", timeout=10, trust_env=False)
