"""The telemetry backend fails in every way that backends do, and no order notices."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.tools.traces.model import Span
from tests.faults.scripted_backend import HEALTHY, Behaviour, ScriptedBackend
from tests.system import Api, Service, System, new_id, order_body
from tests.waiting import eventually

QUEUE = 200
BROKEN = {
    "answers 500": (Behaviour(status=500), "export_failed", "does not take spans"),
    "answers 401": (Behaviour(status=401), "export_failed", "does not take spans"),
    "answers 413": (Behaviour(status=413), "export_failed", "does not take spans"),
    "answers 503, to be tried again": (Behaviour(status=503), "queue_full", "is too slow"),
    "answers 200 and refuses every span": (Behaviour(rejects=True), "rejected", "refuses spans: the disk is full"),
    "takes two seconds to answer": (Behaviour(delay=2), "queue_full", "is too slow"),
    "takes the request and never answers": (Behaviour(hangs=True), "queue_full", "is too slow"),
}


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    with ScriptedBackend() as scripted:
        yield scripted


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_backend_costs_spans_and_says_so_but_no_order(
    system: System, backend: ScriptedBackend, case: str
) -> None:
    """The socket is there and somebody answers on it, but wrongly, slowly or not at all; later it is mended.

    Only traces go there. Metrics and logs go to a healthy receiver, where the loss can be seen.
    """
    backend.behaviour, reason, said = BROKEN[case]
    worker, api = _start(system, backend)

    answers, latency = await _order(api, 200)

    assert answers == [201] * 200
    assert latency < 1.0
    eventually(lambda: _lost(system, reason) > 0, within=40, what="lost spans in the metrics")
    for service in (api.service, worker):
        _wait_for_word(service, said)
        assert "Traceback" not in service.log

    backend.behaviour = HEALTHY
    await _assert_whole_traces_arrive(api, backend)
    for service in (api.service, worker):
        if reason == "export_failed":
            _wait_for_word(service, "takes spans again, after")
            assert service.log.count("takes spans again, after") == 1
        assert service.log.count(said) == 1


async def test_a_backend_that_is_gone_costs_spans_but_no_order_and_is_found_again(
    system: System, backend: ScriptedBackend
) -> None:
    """The backend's process ends: the kernel refuses each connection at once. It starts again on its old port."""
    worker, api = _start(system, backend)
    await _assert_whole_traces_arrive(api, backend)

    backend.go_away()
    answers, latency = await _order(api, 100)
    for service in (api.service, worker):
        _wait_for_word(service, "does not take spans")
    eventually(lambda: _lost(system, "export_failed") > 0, within=40, what="lost spans in the metrics")
    backend.come_back()

    assert answers == [201] * 100
    assert latency < 1.0
    await _assert_whole_traces_arrive(api, backend)
    for service in (api.service, worker):
        _wait_for_word(service, "takes spans again, after")
        assert service.log.count("does not take spans") == service.log.count("takes spans again, after") == 1


async def test_the_memory_of_what_waits_for_a_hanging_backend_is_bounded(
    system: System, backend: ScriptedBackend
) -> None:
    """The backend hangs while a thousand orders make five thousand spans: the queue fills, and what is too much is dropped."""
    backend.behaviour = Behaviour(hangs=True)
    worker, api = _start(system, backend)
    await _order(api, 200)
    before = _resident_mb(api.service), _resident_mb(worker)

    answers, _ = await _order(api, 1000)
    grown = _resident_mb(api.service) - before[0], _resident_mb(worker) - before[1]

    assert answers == [201] * 1000
    assert max(grown) < 30  # a span is some 5 kB
    # What is not lost is in one of the two queues, or in a request that hangs.
    least = 1200 * 5 - 2 * QUEUE - QUEUE * backend.requests
    eventually(lambda: _lost(system, "queue_full") >= least, within=30, what=f"the loss of {least} spans")


@pytest.mark.parametrize("value", ["0", "-1", "many", "1"])
def test_a_queue_size_that_makes_no_sense_costs_no_start(system: System, value: str) -> None:
    worker = system.start_worker(OTEL_BSP_MAX_QUEUE_SIZE=value).wait_until_ready()

    assert worker.log.count("OTEL_BSP_MAX_QUEUE_SIZE is not a positive number") == (value != "1")


def _start(system: System, backend: ScriptedBackend) -> tuple[Service, Api]:
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": backend.endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "3",
        "OTEL_BSP_MAX_QUEUE_SIZE": str(QUEUE),
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
    }
    worker = system.start_worker(**environment)
    api = system.start_api(**environment)
    worker.wait_until_ready()
    api.service.wait_until_ready()
    return worker, api


async def _order(api: Api, count: int) -> tuple[list[int], float]:
    """Place orders from eight clients at once; gives the statuses and the median seconds an order."""
    statuses: list[int] = []
    seconds: list[float] = []

    async def submit(http: httpx.AsyncClient, share: int) -> None:
        for _ in range(share):
            started = time.perf_counter()
            statuses.append((await http.post("/orders", json=order_body({"widget": 1}, new_id()))).status_code)
            seconds.append(time.perf_counter() - started)

    async with httpx.AsyncClient(base_url=api.service.url, timeout=60, trust_env=False) as http:
        await asyncio.gather(*(submit(http, count // 8 + (number < count % 8)) for number in range(8)))
    return statuses, statistics.median(seconds)


async def _assert_whole_traces_arrive(api: Api, backend: ScriptedBackend) -> None:
    """Order until a trace has arrived whole; the queue may still be full of what waited."""

    async def arrives() -> bool:
        trace_id = (await asyncio.to_thread(api.submit, {"widget": 1})).headers["x-trace-id"]
        deadline = time.monotonic() + 2

        def of_the_trace() -> list[Span]:
            return [span for span in list(backend.spans) if span.trace_id == trace_id]

        while len(of_the_trace()) < 5 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        return len(of_the_trace()) == 5

    for _ in range(15):
        if await arrives():
            return
    pytest.fail("no trace arrived whole")


def _wait_for_word(service: Service, word: str) -> None:
    eventually(lambda: word in service.log, within=40, what=f"{word!r} in the log")


def _lost(system: System, reason: str) -> float:
    return system.receiver.metric("orders.spans.lost", reason=reason) or 0.0


def _resident_mb(service: Service) -> float:
    pages = int(Path(f"/proc/{service.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6
