"""The telemetry backend fails in every way that backends do, and no order notices; what may wait, waits and is not lost."""

import asyncio
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from shared.tools.traces.model import Span
from tests.faults.scripted_backend import HEALTHY, Behaviour, ScriptedBackend
from tests.system import Api, Service, System, new_id, order_body
from tests.waiting import eventually

BATCH = 200
PARTS = 5
WAITS = {
    "answers 500": (Behaviour(status=500), "does not take spans: 500 Internal Server Error"),
    "answers 401": (Behaviour(status=401), "does not take spans: 401 Unauthorized"),
    "answers 503": (Behaviour(status=503), "does not take spans: 503 Service Unavailable"),
    "redirects": (Behaviour(status=302, headers={"Location": "/login"}), "does not take spans: 302 Found"),
    "takes the request and never answers": (Behaviour(hangs=True), "does not take spans: no response within 3 s"),
}
SELDOM = {"answers 503", "redirects"}
LOSES = {
    "answers 413": (Behaviour(status=413), "export_failed", "does not take spans: 413"),
    "answers 200 and refuses every span": (Behaviour(rejects=True), "rejected", "refuses spans: the disk is full"),
}
REASONS = ("queue_full", "buffer_full", "export_failed", "rejected", "stopped")
LATENCY = 2.5
"""Seconds: less than an attempt may take, so that an order which waited for one would show; much, for a busy machine."""
RECOVERY_SECONDS = 60
"""The longest pause between attempts, the quiet after the trouble, and what a busy machine takes for both."""


@dataclass
class Tally:
    """Counts what arrives without keeping it: the names of the spans of each trace, and how many there are of each."""

    names: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, spans: list[Span]) -> None:
        """Take in a batch; one that arrives twice, as its response was lost, counts once."""
        with self.lock:
            for span in spans:
                if not span.name.startswith("commit"):
                    self.names[span.trace_id][span.name].add(span.span_id)

    def whole(self, trace_ids: set[str]) -> int:
        """Count the traces of which each part is there, once."""
        with self.lock:
            found = [self.names[each] for each in trace_ids if each in self.names]
            return sum(len(names) == PARTS and all(len(ids) == 1 for ids in names.values()) for names in found)


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    with ScriptedBackend() as scripted:
        yield scripted


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.long if case in SELDOM else []) for case in WAITS]
)
async def test_what_a_broken_backend_may_take_later_is_kept_until_then(
    system: System, backend: ScriptedBackend, case: str
) -> None:
    """The socket is there and somebody answers on it, but wrongly or not at all; later it is mended.

    Only traces go there. Metrics and logs go to a healthy receiver, where a loss would be seen.
    """
    tally = Tally()
    backend.take = tally.take
    backend.behaviour, said = WAITS[case]
    worker, api = _start(system, backend)

    orders = await _order(api, 200)
    for service in (api.service, worker):
        _wait_for_word(service, said)

    assert orders.statuses == [201] * 200
    assert statistics.median(orders.seconds) < LATENCY
    backend.behaviour = HEALTHY
    eventually(lambda: tally.whole(orders.traces) == 200, within=RECOVERY_SECONDS, what="200 whole traces")
    for service in (api.service, worker):
        _wait_for_word(service, "takes spans again, after 0 were lost")
        assert service.log.count(said) == service.log.count("takes spans again") == 1
        assert "Traceback" not in service.log
    assert _lost(system) == {}


@pytest.mark.parametrize("case", LOSES)
async def test_what_a_backend_refuses_for_good_is_counted_and_does_not_block_what_follows(
    system: System, backend: ScriptedBackend, case: str
) -> None:
    """The backend refuses each batch, or each span of it; later it is mended."""
    backend.behaviour, reason, said = LOSES[case]
    worker, api = _start(system, backend)

    orders = await _order(api, 200)

    assert orders.statuses == [201] * 200
    assert statistics.median(orders.seconds) < LATENCY
    eventually(lambda: _lost(system).get(reason, 0) > 0, within=40, what="lost spans in the metrics")
    for service in (api.service, worker):
        _wait_for_word(service, said)
    backend.behaviour = HEALTHY
    await _assert_whole_traces_arrive(api, backend)
    for service in (api.service, worker):
        _wait_for_word(service, "takes spans again, after")
        assert service.log.count(said) == service.log.count("takes spans again") == 1
        assert "Traceback" not in service.log


async def test_a_slow_backend_costs_nothing_and_nothing_is_said(system: System, backend: ScriptedBackend) -> None:
    """It takes a second for each answer: batches wait for one another."""
    tally = Tally()
    backend.take = tally.take
    backend.behaviour = Behaviour(delay=1)
    worker, api = _start(system, backend)

    orders = await _order(api, 200)

    assert orders.statuses == [201] * 200
    assert statistics.median(orders.seconds) < LATENCY
    eventually(lambda: tally.whole(orders.traces) == 200, within=RECOVERY_SECONDS, what="200 whole traces")
    assert "telemetry backend" not in api.service.log + worker.log
    assert _lost(system) == {}


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [
        pytest.param(12, 30, id="for 12 s at 30 a second"),
        pytest.param(120, 100, id="for 2 min at 100 a second", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        pytest.param(600, 100, id="for 10 min at 100 a second", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
async def test_a_backend_that_is_gone_costs_no_span(
    system: System, backend: ScriptedBackend, seconds: float, rate: float
) -> None:
    """The backend's process ends: the kernel refuses each connection at once. It starts again on its old port.

    Ten minutes at 100 orders a second is what the default buffer is made for.
    """
    await _assert_nothing_is_lost_while_away(system, backend, seconds=seconds, rate=rate)


async def test_beyond_its_bound_the_buffer_drops_the_oldest_and_memory_stays_flat(
    system: System, backend: ScriptedBackend
) -> None:
    """The backend hangs while a thousand orders make five thousand spans, and there is room for a few hundred."""
    tally = Tally()
    backend.take = tally.take
    backend.behaviour = Behaviour(hangs=True)
    worker, api = _start(system, backend, TELEMETRY_BUFFER_MB="0.05")
    first = await _order(api, 200)
    before = _resident_mb(api.service), _resident_mb(worker)

    orders = await _order(api, 1000)
    grown = _resident_mb(api.service) - before[0], _resident_mb(worker) - before[1]
    for service in (api.service, worker):
        _wait_for_word(service, "the buffer of 0.0375 MB is full, spans are dropped")
    eventually(lambda: _lost(system).get("buffer_full", 0) > 1000, within=40, what="lost spans in the metrics")
    backend.behaviour = HEALTHY

    assert orders.statuses == [201] * 1000
    assert max(grown) < 30  # a span is some 5 kB
    # The latest are there; what is not was counted.
    last = set(list(orders.by_time)[-20:])
    eventually(lambda: tally.whole(last) == 20, within=RECOVERY_SECONDS, what="the latest traces")
    traces = first.traces | orders.traces

    def accounted_for() -> bool:
        with tally.lock:
            arrived = sum(len(ids) for each in traces if each in tally.names for ids in tally.names[each].values())
        return arrived + sum(_lost(system).values()) >= PARTS * len(traces)

    eventually(accounted_for, within=RECOVERY_SECONDS, what="an account of every span")


@pytest.mark.parametrize("is_there", [False, True], ids=["gone", "hangs"])
async def test_sigterm_waits_five_seconds_at_most_for_a_backend_and_says_what_is_lost(
    system: System, backend: ScriptedBackend, is_there: bool
) -> None:
    if is_there:
        backend.behaviour = Behaviour(hangs=True)
    else:
        backend.go_away()
    worker, api = _start(system, backend, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="60000")
    orders = await _order(api, 20)
    assert orders.statuses == [201] * 20

    seconds = {}
    for service in (api.service, worker):
        began = time.monotonic()
        assert service.end() == 0
        seconds[service.url] = time.monotonic() - began

    # The rest of the end takes a second, and several on a busy machine.
    assert max(seconds.values()) < 12
    for service in (api.service, worker):
        assert "has not taken the last" in service.log


@pytest.mark.parametrize("value", ["0", "-1", "many", "1"])
def test_a_queue_size_that_makes_no_sense_costs_no_start(system: System, value: str) -> None:
    worker = system.start_worker(OTEL_BSP_MAX_QUEUE_SIZE=value).wait_until_ready()

    assert worker.log.count("OTEL_BSP_MAX_QUEUE_SIZE") == (value != "1")


async def _assert_nothing_is_lost_while_away(
    system: System, backend: ScriptedBackend, *, seconds: float, rate: float
) -> None:
    """Have the backend go away while orders flow, and come back after so many seconds."""
    tally = Tally()
    backend.take = tally.take
    worker, api = _start(system, backend)
    before = await _order_at(api, rate, seconds=3)
    eventually(lambda: tally.whole(before.traces) == len(before.traces), what="whole traces before")

    backend.go_away()
    during = await _order_at(api, rate, seconds)
    for service in (api.service, worker):
        _wait_for_word(service, "does not take spans")
    backend.come_back()
    after = await _order_at(api, rate, seconds=3)

    traces = before.traces | during.traces | after.traces
    assert {*before.statuses, *during.statuses, *after.statuses} == {201}
    assert len(during.traces) >= 0.95 * seconds * rate
    eventually(
        lambda: tally.whole(traces) == len(traces),
        within=RECOVERY_SECONDS + seconds,
        what=f"{len(traces)} whole traces",
    )
    for service in (api.service, worker):
        _wait_for_word(service, "takes spans again, after 0 were lost")
        assert service.log.count("telemetry backend") <= 3  # a cut connection, a refused one, and the end of it
    assert _lost(system) == {}


def _start(system: System, backend: ScriptedBackend, **more: str) -> tuple[Service, Api]:
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": backend.endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "3000",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(BATCH),
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        "REPLY_TIMEOUT": "30",
        **more,
    }
    worker = system.start_worker(**environment)
    api = system.start_api(**environment)
    worker.wait_until_ready()
    api.service.wait_until_ready()
    return worker, api


@dataclass
class Orders:
    """What was answered, in the order of the answers."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    by_time: dict[str, None] = field(default_factory=dict)
    """The ids of the traces."""

    @property
    def traces(self) -> set[str]:
        return set(self.by_time)

    async def place(self, http: httpx.AsyncClient) -> None:
        started = time.perf_counter()
        answer = await http.post("/orders", json=order_body({"widget": 1}, new_id()))
        self.seconds.append(time.perf_counter() - started)
        self.statuses.append(answer.status_code)
        self.by_time[answer.headers["x-trace-id"]] = None


def _client(api: Api) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=50, keepalive_expiry=1)  # sooner than the service closes them
    return httpx.AsyncClient(base_url=api.service.url, timeout=120, limits=limits, trust_env=False)


async def _order(api: Api, count: int) -> Orders:
    """Place orders from eight clients at once."""
    orders = Orders()

    async def submit(share: int) -> None:
        for _ in range(share):
            await orders.place(http)

    async with _client(api) as http:
        await asyncio.gather(*(submit(count // 8 + (number < count % 8)) for number in range(8)))
    return orders


async def _order_at(api: Api, rate: float, seconds: float) -> Orders:
    """Place orders at a rate, whether those before are answered or not."""
    orders = Orders()
    started = time.monotonic()
    async with _client(api) as http, asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            group.create_task(orders.place(http))
    return orders


async def _assert_whole_traces_arrive(api: Api, backend: ScriptedBackend) -> None:
    """Order until a trace has arrived whole; the queue may still be full of what waited."""
    tally = Tally()
    backend.take = tally.take
    for _ in range(15):
        trace_id = (await asyncio.to_thread(api.submit, {"widget": 1})).headers["x-trace-id"]
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if tally.whole({trace_id}):
                return
            await asyncio.sleep(0.05)
    pytest.fail("no trace arrived whole")


def _wait_for_word(service: Service, word: str) -> None:
    eventually(lambda: word in service.log, within=RECOVERY_SECONDS, what=f"{word!r} in the log")


def _lost(system: System) -> dict[str, float]:
    found = {reason: system.receiver.metric("orders.spans.lost", reason=reason) for reason in REASONS}
    return {reason: count for reason, count in found.items() if count}


def _resident_mb(service: Service) -> float:
    pages = int(Path(f"/proc/{service.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6
