"""SIGTERM while requests wait for two minutes: each is answered before the process ends."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tests.resilience.rig import Rig
from tests.system import new_id
from tests.waiting import eventually

WAITING = 20
END_SECONDS = 20.0


def test_twenty_requests_that_wait_for_120_s_are_answered_202_at_sigterm(rig: Rig) -> None:
    worker = rig.start_worker()
    api = rig.start_api(REPLY_TIMEOUT="120")
    order_ids = [new_id() for _ in range(WAITING)]

    with ThreadPoolExecutor(WAITING) as callers, worker.paused(), rig.meter.running():
        answering = [callers.submit(api.submit, {"widget": 1}, order_id) for order_id in order_ids]
        eventually(lambda: len(rig.meter.published()) == WAITING, what="a check for each")
        api.service.signal(signal.SIGTERM)
        began = time.monotonic()
        answers = [each.result(60) for each in answering]
        eventually(lambda: api.service.exit_status is not None, within=60, what="the end of the process")
        took = time.monotonic() - began

    assert {answer.status_code for answer in answers} == {202}
    assert {answer.headers["location"] for answer in answers} == {f"/orders/{order_id}" for order_id in order_ids}
    assert api.service.exit_status == 0
    assert took < END_SECONDS
    again = rig.start_api()
    assert {again.wait_for_outcome(order_id)["status"] for order_id in order_ids} == {"success"}
