"""Starting and ending: with no backend, with one that is down, with wrong settings, and on SIGTERM under load."""

import signal
import subprocess
import sys
import threading

import pytest

from shared.tools.local.ports import claim_port, port_of
from tests.system import System, new_id, stock_levels
from tests.waiting import eventually


def test_without_a_backend_orders_are_served_and_the_service_says_so_once(system: System) -> None:
    worker = system.start_worker(OPENOBSERVE_URL="").wait_until_ready()
    api = system.start_api(OPENOBSERVE_URL="")
    api.service.wait_until_ready()

    answer = api.submit({"widget": 1})

    assert answer.json()["status"] == "success"
    assert answer.json()["trace_id"] is None
    assert "x-trace-id" not in answer.headers
    assert api.service.log.count("running untraced") == worker.log.count("running untraced") == 1


def test_with_a_backend_that_is_down_orders_are_served_and_the_end_is_orderly(system: System) -> None:
    with claim_port() as claim:
        nobody = f"http://127.0.0.1:{port_of(claim)}"
        worker = system.start_worker(OPENOBSERVE_URL=nobody).wait_until_ready()
        api = system.start_api(OPENOBSERVE_URL=nobody)
        api.service.wait_until_ready()

        answers = [api.submit({"widget": 1}).status_code for _ in range(20)]

        assert answers == [201] * 20
        assert (api.service.end(), worker.end()) == (0, 0)


def test_what_was_traced_is_exported_before_the_end(system: System) -> None:
    worker = system.start_worker(OTEL_BSP_SCHEDULE_DELAY="60000").wait_until_ready()
    api = system.start_api(OTEL_BSP_SCHEDULE_DELAY="60000")
    api.service.wait_until_ready()
    trace_id = api.submit({"widget": 1}).headers["x-trace-id"]

    statuses = (api.service.end(), worker.end())

    assert statuses == (0, 0)
    assert len(system.receiver.trace(trace_id)) == 5


def test_otel_variables_win_over_openobserve_variables(system: System) -> None:
    system.start_worker().wait_until_ready()
    endpoint = f"{system.receiver.url}/api/default"
    api = system.start_api(OPENOBSERVE_URL="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    api.service.wait_until_ready()

    trace_id = api.submit({"widget": 1}).headers["x-trace-id"]

    system.receiver.wait_for_trace(trace_id, lambda found: len(found) == 5)


def test_sigterm_under_load_finishes_what_was_accepted(system: System) -> None:
    worker = system.start_worker().wait_until_ready()
    api = system.start_api()
    api.service.wait_until_ready()
    answered: list[int] = []
    stop = threading.Event()

    def submit_until_stopped() -> None:
        while not stop.is_set():
            answered.append(api.submit({"widget": 1}, new_id()).status_code)

    load = threading.Thread(target=submit_until_stopped)
    load.start()
    try:
        eventually(lambda: len(answered) > 20, what="load")
        worker.signal(signal.SIGTERM)
        eventually(lambda: worker.exit_status is not None, within=20, what="the worker's end")
    finally:
        stop.set()
        load.join()
    again = system.start_worker().wait_until_ready()

    assert worker.exit_status == 0
    assert set(answered) <= {201, 202}
    eventually(
        lambda: stock_levels(again)["widget"] == 1_000_000 - len(answered), within=30, what="every order's stock"
    )


@pytest.mark.parametrize(
    ("module", "environment", "expected"),
    [
        ("order_api", {"ORDER_API_PORT": "eighty"}, "ORDER_API_PORT"),
        ("order_api", {"AMQP_URL": "http://nowhere"}, "AMQP_URL"),
        ("order_api", {"REPLY_TIMEOUT": "-1"}, "REPLY_TIMEOUT"),
        ("inventory_worker", {"INITIAL_STOCK": '{"widget": -1}'}, "INITIAL_STOCK"),
        ("inventory_worker", {"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
    ],
)
def test_wrong_settings_end_the_start_with_one_clear_sentence(
    module: str, environment: dict[str, str], expected: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module], env=environment, capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert expected in line
