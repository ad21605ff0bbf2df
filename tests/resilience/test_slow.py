"""Nothing is away, all is late: confirms that take seconds, and a commit that is held back."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.faults.proxied_broker import proxied
from tests.resilience.accounts import settle
from tests.resilience.drill import Size, long, sizes
from tests.resilience.load import Load
from tests.resilience.rig import Rig
from tests.sqlite_lock import locked
from tests.system import Api, new_id
from tests.waiting import eventually

CONFIRM_SECONDS = 4.0
BACKLOG_SECONDS = 2.0
PROBES = {10: 2, 60: 3}
"""Checks that are sent again to find out whether anything was lost, by the seconds that it lasts: one is due after 10 s, and
another 10 and 20 s after the one before it is confirmed."""
COPIES = 2.0
"""Checks for each order that is placed while confirms are late: the first may count as lost once, with a pause before it."""
ORDERS, HELD_SECONDS = 10, 1.5
SENT_SECONDS = 5.0


@sizes(Size(10, 5), long(60, 5))
def test_confirms_that_take_four_seconds_are_waited_for_and_not_taken_for_lost(rig: Rig, size: Size) -> None:
    """A slow disk or a slow way: everything between the API and the broker takes 2 s each way, while no worker takes anything.

    What was confirmed before is in the queue and stays there; what was not is unknown, not unsent.
    """
    worker = rig.start_worker()
    with proxied(rig.host.amqp_url) as way:
        api = rig.start_api(AMQP_URL=way.amqp_url, REPLY_TIMEOUT="1")
        before, during = Load([api.service.url], 50.0), Load([api.service.url], size.rate)
        with rig.meter.running(), worker.paused():
            with before.running():
                time.sleep(BACKLOG_SECONDS)
            way.slow(CONFIRM_SECONDS / 2)
            with during.running():
                time.sleep(size.seconds)
            way.slow(0.0)
            worker.signal(signal.SIGCONT)
            accounts, _ = settle(api.service.url, [*before.placed, *during.placed], within=120)
            published = rig.meter.published()

    assert accounts.broken == {}
    assert sum(published[order.order_id] - 1 for order in before.placed) <= PROBES[round(size.seconds)]
    copies = sum(published[order.order_id] for order in during.placed)
    print(f"{copies} checks for {len(during.placed)} orders while confirms took {CONFIRM_SECONDS:.0f} s")
    assert copies <= COPIES * len(during.placed)
    assert rig.meter.dead_letters() == []


def test_behind_a_commit_of_a_second_and_a_half_every_order_is_asked_for_by_its_own_request(rig: Rig) -> None:
    """The callers wait for less than the commit takes, so nothing is left of their wait when the order is stored.

    As soon as the orders can be read, the file is locked again: a relay that looks for what was not sent finds nothing.
    """
    rig.start_worker()
    api = rig.start_api(REPLY_TIMEOUT="1")
    assert api.submit({"widget": 1}).status_code == 201
    order_ids = [new_id() for _ in range(ORDERS)]

    with rig.meter.running(), ThreadPoolExecutor(ORDERS) as callers:
        with locked(rig.orders_file()):
            answering = [callers.submit(api.submit, {"widget": 1}, order_id) for order_id in order_ids]
            time.sleep(HELD_SECONDS)
        for order_id in order_ids:
            eventually(partial(_is_stored, api, order_id), what="a stored order")
        with locked(rig.orders_file()):
            eventually(lambda: set(order_ids) <= set(rig.meter.published()), within=SENT_SECONDS, what="every check")
        codes = {each.result(60).status_code for each in answering}
        outcomes = {api.wait_for_outcome(order_id)["status"] for order_id in order_ids}
        published = rig.meter.published()

    assert codes <= {201, 202}
    assert outcomes == {"success"}
    assert set(published.values()) == {1}


def _is_stored(api: Api, order_id: str) -> bool:
    return api.http.get(f"/orders/{order_id}").status_code == 200
