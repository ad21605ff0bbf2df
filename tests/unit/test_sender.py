"""The sender before a backend that does as it is told: order, bounds, patience, and an account that adds up."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from shared.telemetry import sender as module
from shared.telemetry.account import Account
from shared.telemetry.buffer import Buffer
from shared.telemetry.otlp_response import Attempt, Fate, classify
from shared.telemetry.sender import Sender
from tests.waiting import eventually

OK, REFUSED, AWAY = classify(200), classify(413), Attempt(Fate.WAITS, cause="Connection refused")
MUCH = 1e6


class Backend:
    """Takes bodies, as long as `respond` says so; each attempt is remembered."""

    def __init__(self) -> None:
        self.respond: Callable[[str], Attempt] = lambda _: OK
        self.taken: list[str] = []
        self.attempts: list[tuple[str, float]] = []
        self.flowing = threading.Event()
        self.flowing.set()

    def send(self, body: bytes) -> Attempt:
        text = gzip.decompress(body).decode()
        self.attempts.append((text, time.monotonic()))
        assert self.flowing.wait(60)
        attempt = self.respond(text)
        if attempt.fate is Fate.DELIVERED:
            self.taken.append(text)
        return attempt

    def tried(self, text: str) -> int:
        return sum(each == text for each, _ in self.attempts)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.flowing.set()


def _sender(backend: Backend, limit: float = MUCH, most: int = 0) -> Sender:
    return Sender(backend.send, Account("spans", "http://backend", quiet_seconds=0.1), Buffer(limit, most))


def _lost(sender: Sender) -> dict[str, int]:
    return {reason: count for reason, count in sender.account.by_reason().items() if count}


def _texts(count: int) -> list[str]:
    return [f"batch {number}" for number in range(count)]


def test_what_waited_is_sent_in_order_when_the_backend_is_back(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    sender, texts = _sender(backend), _texts(50)
    backend.respond = lambda _: AWAY

    for text in texts:
        sender.put(text.encode(), 10)
    eventually(lambda: backend.tried(texts[0]) >= 4, what="attempts")
    assert backend.taken == []
    backend.respond = lambda _: OK
    assert sender.flush(30)

    assert backend.taken == texts
    assert _lost(sender) == {}
    eventually(lambda: "takes spans again" in caplog.text, what="the end of the trouble")
    assert "takes spans again, after 0 were lost; 500 that waited or came since are there" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    sender.end()


def test_an_export_never_waits_for_the_backend(backend: Backend) -> None:
    sender = _sender(backend)
    backend.flowing.clear()

    began = time.monotonic()
    for text in _texts(100):
        sender.put(text.encode(), 1)

    assert time.monotonic() - began < 5
    assert not sender.flush(0.01)
    backend.flowing.set()
    assert sender.flush(30)
    assert backend.taken == _texts(100)
    sender.end()


def test_beyond_the_bound_the_oldest_are_dropped_and_counted(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    texts = _texts(20)
    size = len(gzip.compress(texts[0].encode(), 1, mtime=0))
    sender = _sender(backend, limit=5.5 * size)
    backend.flowing.clear()
    sender.put(texts[0].encode(), 10)
    eventually(lambda: backend.attempts, what="the first on its way")

    for text in texts[1:]:
        sender.put(text.encode(), 10)
    dropped = sender.account.by_reason()["buffer_full"]
    backend.flowing.set()
    assert sender.flush(30)

    # The first was on its way and does not count as waiting; what is left beside it are the latest.
    kept = backend.taken[1:]
    assert kept == texts[-len(kept) :]
    assert backend.taken[0] == texts[0]
    assert dropped == 10 * (len(texts) - 1 - len(kept)) > 0
    assert caplog.text.count("the buffer of") == 1
    sender.end()


def test_a_batch_larger_than_the_buffer_is_counted_as_dropped(backend: Backend) -> None:
    sender = _sender(backend, limit=10)

    sender.put(b"much too large", 7)

    # It is dropped, or was on its way already.
    assert sender.flush(30)
    assert _lost(sender).get("buffer_full", 0) == (0 if backend.taken else 7)
    sender.end()


def test_batches_that_wait_for_a_slow_backend_are_sent_as_one_up_to_the_most_of_a_request(backend: Backend) -> None:
    sender = _sender(backend, most=40)
    backend.flowing.clear()
    sender.put(b"0", 10)
    eventually(lambda: backend.attempts, what="the first on its way")

    for text in "123456789":
        sender.put(text.encode(), 10)
    backend.flowing.set()
    assert sender.flush(30)

    assert backend.taken == ["0", "1234", "5678", "9"]
    assert _lost(sender) == {}
    sender.end()


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_is_refused_for_good_does_not_block_what_follows(
    backend: Backend, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    sender = _sender(backend)
    backend.respond = lambda text: classify(status) if text == "batch 1" else OK

    for text in _texts(4):
        sender.put(text.encode(), 10)
    assert sender.flush(30)

    assert backend.taken == ["batch 0", "batch 2", "batch 3"]
    assert backend.tried("batch 1") == 1
    assert _lost(sender) == {"export_failed": 10}
    assert f"http://backend does not take spans: {status} " in caplog.text
    sender.end()


@pytest.mark.parametrize("status", [301, 401, 403, 408, 429, 500, 502, 503, 504])
def test_what_may_go_away_is_tried_again_and_costs_nothing(backend: Backend, status: int) -> None:
    sender = _sender(backend)
    backend.respond = lambda _: classify(status)

    for text in _texts(3):
        sender.put(text.encode(), 10)
    eventually(lambda: len(backend.attempts) >= 8, what="attempts")
    backend.respond = lambda _: OK
    assert sender.flush(30)

    assert sorted(backend.taken) == _texts(3)
    assert _lost(sender) == {}
    sender.end()


def test_a_batch_that_the_backend_fails_at_while_it_takes_others_is_passed_over_and_then_given_up(
    backend: Backend,
) -> None:
    sender = _sender(backend)
    backend.respond = lambda text: classify(500) if text == "batch 1" else OK

    for text in _texts(4):
        sender.put(text.encode(), 10)
    assert sender.flush(30)

    assert backend.taken == ["batch 0", "batch 2", "batch 3"]
    assert backend.tried("batch 1") == 2 * module.PATIENCE
    assert _lost(sender) == {"export_failed": 10}
    sender.end()


def test_pauses_grow_and_are_no_longer_than_the_longest(backend: Backend) -> None:
    sender = _sender(backend)
    backend.respond = lambda _: AWAY

    sender.put(b"one", 1)
    eventually(lambda: len(backend.attempts) >= 8, what="attempts")
    sender.end()

    times = [at for _, at in backend.attempts[:8]]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[0] >= 0.005
    assert all(pause >= 0.025 for pause in pauses[3:])


def test_retry_after_is_honoured_within_reason(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_RETRY_AFTER", 0.3)
    sender = _sender(backend)
    backend.respond = lambda _: classify(429, {"Retry-After": "3600"})

    sender.put(b"one", 1)
    eventually(lambda: len(backend.attempts) >= 3, what="attempts")
    sender.end()

    times = [at for _, at in backend.attempts[:3]]
    assert all(later - earlier >= 0.29 for earlier, later in pairwise(times))


def test_an_outage_is_said_once_for_each_cause_however_long_it_is(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    sender = _sender(backend)
    backend.respond = lambda _: AWAY
    sender.put(b"one", 3)
    eventually(lambda: len(backend.attempts) >= 5, what="attempts")
    backend.respond = lambda _: classify(503)
    attempts = len(backend.attempts)
    eventually(lambda: len(backend.attempts) >= attempts + 5, what="more attempts")
    backend.respond = lambda _: OK
    assert sender.flush(30)
    eventually(lambda: "again" in caplog.text, what="the end of the trouble")
    sender.end()

    assert [record.getMessage() for record in caplog.records] == [
        "the telemetry backend at http://backend does not take spans: Connection refused; they wait until it does",
        "the telemetry backend at http://backend does not take spans: 503 Service Unavailable; they wait until it does",
        "the telemetry backend at http://backend takes spans again, after 0 were lost; "
        "3 that waited or came since are there",
    ]


def test_rejected_items_of_a_batch_are_counted_and_said_once(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    sender = _sender(backend)
    backend.respond = lambda _: Attempt(Fate.DELIVERED, 200, "too old", rejected=7)

    for text in _texts(3):
        sender.put(text.encode(), 10)
    assert sender.flush(30)
    sender.end()

    assert _lost(sender) == {"rejected": 21}
    assert caplog.text.count("refuses spans: too old") == 1


def test_the_end_sends_what_waits_even_in_the_middle_of_a_pause(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 3600.0)
    sender = _sender(backend)
    backend.respond = lambda _: AWAY
    for text in _texts(5):
        sender.put(text.encode(), 10)
    eventually(lambda: backend.attempts, what="an attempt")
    assert not sender.flush(0.1)

    backend.respond = lambda _: OK
    sender.end(30)

    assert backend.taken == _texts(5)
    assert _lost(sender) == {}


def test_the_end_does_not_wait_for_a_backend_that_is_away_and_says_what_is_lost(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    sender = _sender(backend)
    backend.respond = lambda _: AWAY
    for text in _texts(5):
        sender.put(text.encode(), 10)
    eventually(lambda: backend.attempts, what="an attempt")

    began = time.monotonic()
    sender.end(60)

    assert time.monotonic() - began < 20
    assert _lost(sender) == {"stopped": 50}
    assert "has not taken the last 50 spans: they are lost" in caplog.text


def test_the_end_does_not_wait_for_a_backend_that_hangs(backend: Backend) -> None:
    sender = _sender(backend)
    backend.flowing.clear()
    for text in _texts(5):
        sender.put(text.encode(), 10)
    eventually(lambda: backend.attempts, what="an attempt")

    began = time.monotonic()
    sender.end(0.5)

    assert 0.4 < time.monotonic() - began < 20
    assert _lost(sender) == {"stopped": 50}
    sender.put(b"too late", 3)
    assert _lost(sender) == {"stopped": 53}
    sender.end(0.5)
    assert _lost(sender) == {"stopped": 53}


def test_a_sender_that_nothing_was_given_to_ends_at_once_and_never_starts_a_thread(backend: Backend) -> None:
    before = threading.active_count()
    sender = _sender(backend)
    sender.end(60)

    assert threading.active_count() == before
