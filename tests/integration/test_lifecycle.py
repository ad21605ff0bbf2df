"""Starting and ending: with no backend, with one that is down, with wrong settings, on a taken port, on SIGTERM under load."""

import http.client
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from tests.system import Api, System, new_id, stock_levels
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


def test_a_service_that_others_reach_says_that_they_may_write_unless_there_is_a_key(system: System) -> None:
    open_one = system.start_api(ORDER_API_HOST="0.0.0.0")  # noqa: S104
    guarded = system.start_api(ORDER_API_HOST="0.0.0.0", ORDER_API_KEY="a-key")  # noqa: S104
    local = system.start_api()
    for each in (open_one, guarded, local):
        each.service.wait_until_ready()

    found = ["ORDER_API_KEY is not set" in each.service.log for each in (open_one, guarded, local)]

    assert found == [True, False, False]


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
    ("module", "port_name"), [("order_api", "ORDER_API_PORT"), ("inventory_worker", "INVENTORY_WORKER_PORT")]
)
def test_a_taken_port_ends_the_start_with_one_sentence_before_anything_is_touched(
    module: str, port_name: str, tmp_path: Path
) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = str(other.getsockname()[1])
        environment = {port_name: port, "DATABASE_URL": f"sqlite:///{tmp_path}/never.db"}

        done = subprocess.run(
            [sys.executable, "-m", module], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert port in line
    assert "already in use" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "nobody.invalid", "no..body"]
)  # the first is nobody's network (RFC 5737)
def test_a_host_that_is_not_ours_ends_the_start_with_one_sentence(host: str) -> None:
    environment = {"ORDER_API_HOST": host}

    done = subprocess.run(
        [sys.executable, "-m", "order_api"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"cannot serve on {host}, port 8000: " in line


def test_a_service_on_localhost_answers_on_each_of_its_addresses(system: System) -> None:
    service = system.start_worker(INVENTORY_WORKER_HOST="localhost").wait_until_ready()
    port = int(service.url.rsplit(":", 1)[1])
    addresses = {found[4][0] for found in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}

    for address in addresses:
        with socket.create_connection((str(address), port), timeout=30) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert service.end() == 0


@pytest.mark.long
def test_an_idle_connection_is_kept_longer_than_the_60_s_of_usual_proxies(api: Api) -> None:
    connection = http.client.HTTPConnection(urlsplit(api.service.url).netloc, timeout=61)
    with closing(connection):
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"healthy"}'
        kept = connection.sock

        with pytest.raises(TimeoutError):
            kept.recv(1)  # where it is closed, this gives b"" at once

        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"healthy"}'
        assert connection.sock is kept


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
