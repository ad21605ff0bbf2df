"""The trace of one order, as an OTLP receiver got it over the wire from two separate processes."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from shared.tools.traces.model import Span
from tests.system import Api, System, new_id
from tests.waiting import eventually

SEND, PROCESS = "send orders:inventory.check", "process orders:inventory.check"
SEND_REPLY, PROCESS_REPLY = "send order-api.replies.{instance}", "process order-api.replies.{instance}"
CALLER = "00-11111111111111111111111111111111-2222222222222222-01"

CHECK = {
    "messaging.system": "rabbitmq",
    "messaging.destination.name": "orders:inventory.check",
    "messaging.rabbitmq.destination.routing_key": "inventory.check",
}
REPLY = {
    "messaging.system": "rabbitmq",
    "messaging.destination.name": re.compile(r"order-api\.replies\.\S+"),
    "messaging.destination.template": "order-api.replies.{instance}",
    "messaging.destination.temporary": True,
    "messaging.rabbitmq.destination.routing_key": re.compile(r"order-api\.replies\.\S+"),
}
SENT = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
PROCESSED = {
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.rabbitmq.message.delivery_tag": int,
    "delivery.attempt": 1,
    "delivery.redelivered": False,
    "delivery.queue_wait_ms": float,
    "delivery.outcome": "ack",
    "order.status": "success",
}
ANY_MESSAGE = {
    "messaging.message.id": str,
    "messaging.message.conversation_id": str,
    "server.address": "127.0.0.1",
    "server.port": int,
}


@dataclass(frozen=True)
class Step:
    """One span of an order's trace: who makes it, under whom, and what it links to and why."""

    name: str
    service: str
    kind: str
    parent: str | None
    links: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, object] = field(default_factory=dict)


STEPS = [
    Step(
        "POST /orders",
        "order-api",
        "SERVER",
        None,
        {"reply": PROCESS_REPLY},
        {
            "http.request.method": "POST",
            "http.route": "/orders",
            "http.response.status_code": 201,
            "url.path": "/orders",
            "order.status": "success",
        },
    ),
    Step(SEND, "order-api", "PRODUCER", "POST /orders", {}, {**CHECK, **SENT, **ANY_MESSAGE}),
    Step(
        PROCESS,
        "inventory-worker",
        "CONSUMER",
        SEND,
        {"creation_context": SEND},
        {**CHECK, **PROCESSED, **ANY_MESSAGE, "inventory.in_stock": True},
    ),
    Step(SEND_REPLY, "inventory-worker", "PRODUCER", PROCESS, {}, {**REPLY, **SENT, **ANY_MESSAGE}),
    Step(
        PROCESS_REPLY,
        "order-api",
        "CONSUMER",
        SEND_REPLY,
        {"creation_context": SEND_REPLY},
        {**REPLY, **PROCESSED, **ANY_MESSAGE},
    ),
]
DATABASE = {
    "db.system.name": "sqlite",
    "db.operation.name": "BATCH",
    "db.operation.batch.size": int,
    "db.query.text": re.compile(r".*(INSERT INTO (orders|decisions) \(\.\.\.\)).*"),
}
IN_ORDERS = {**DATABASE, "db.namespace": "orders", "db.query.summary": "commit orders"}
IN_STOCK = {**DATABASE, "db.namespace": "inventory", "db.query.summary": "commit reservations"}
COMMITS = [
    Step("commit orders", "order-api", "CLIENT", "POST /orders", {}, IN_ORDERS),
    Step("commit reservations", "inventory-worker", "CLIENT", PROCESS, {}, IN_STOCK),
    Step("commit orders", "order-api", "CLIENT", PROCESS_REPLY, {}, IN_ORDERS),
]


@dataclass(frozen=True)
class Traced:
    """An order that was placed, and everything that was exported of it."""

    order_id: str
    spans: Sequence[Span]

    def the(self, name: str) -> Span:
        """Give the one span of a name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found


@pytest.fixture(scope="module")
def traced(api: Api, shared_system: System) -> Traced:
    order_id = new_id()
    answer = api.submit({"widget": 1}, order_id)
    assert answer.status_code == 201
    trace_id = answer.headers["x-trace-id"]
    receiver = shared_system.receiver
    whole = len(STEPS) + len(COMMITS)
    return Traced(order_id, receiver.wait_for_trace(trace_id, lambda found: len(found) >= whole, with_commits=True))


def test_the_trace_holds_these_spans_and_no_other(traced: Traced) -> None:
    assert sorted(span.name for span in traced.spans) == sorted(step.name for step in (*STEPS, *COMMITS))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_each_step_is_a_span_of_its_service_and_kind(traced: Traced, step: Step) -> None:
    span = traced.the(step.name)

    assert (span.service, span.kind, span.status) == (step.service, step.kind, "UNSET")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_each_step_has_its_parent(traced: Traced, step: Step) -> None:
    parent = None if step.parent is None else traced.the(step.parent).span_id

    assert traced.the(step.name).parent_span_id == parent


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_each_step_links_to_what_is_not_its_parent_and_says_why(traced: Traced, step: Step) -> None:
    links = {str(link.attributes["link.reason"]): link.span_id for link in traced.the(step.name).links}

    assert links == {reason: traced.the(target).span_id for reason, target in step.links.items()}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_each_step_carries_the_attributes_of_the_conventions(traced: Traced, step: Step) -> None:
    attributes = traced.the(step.name).attributes

    missing = {name: (expected, attributes.get(name)) for name, expected in step.attributes.items()
               if not _fits(attributes.get(name), expected)}  # fmt: skip

    assert not missing


@pytest.mark.parametrize("name", ["POST /orders", PROCESS, PROCESS_REPLY])
def test_the_order_can_be_found_by_its_id(traced: Traced, name: str) -> None:
    assert traced.the(name).attributes["order.id"] == traced.order_id


def test_nothing_is_left_of_the_old_conventions(traced: Traced) -> None:
    old = {"messaging.destination", "messaging.operation", "messaging.temp_destination", "messaging.conversation_id",
           "net.peer.name", "net.peer.port"}  # fmt: skip

    assert not [(span.name, name) for span in traced.spans for name in span.attributes if name in old]


def test_no_generated_id_is_in_any_span_name(shared_system: System, traced: Traced) -> None:
    names = {span.name for span in shared_system.receiver.spans()}

    assert not [name for name in names if re.search(r"[0-9a-f]{6,}|ctag|amq|\d{3,}", name)]
    assert traced.order_id not in " ".join(names)


def test_a_group_commit_that_served_one_span_is_a_child_of_it(traced: Traced) -> None:
    found = [span for span in traced.spans if span.name.startswith("commit ")]

    assert sorted((span.name, span.service, span.kind, str(span.parent_span_id)) for span in found) == sorted(
        (step.name, step.service, step.kind, traced.the(str(step.parent)).span_id) for step in COMMITS
    )
    assert not [span.links for span in found if span.links]
    for span in found:
        expected = next(step.attributes for step in COMMITS if step.name == span.name)
        assert not {name for name, value in expected.items() if not _fits(span.attributes.get(name), value)}


def test_a_group_commit_that_served_several_is_a_trace_of_its_own_that_links_to_each(
    shared_system: System, api: Api
) -> None:
    with ThreadPoolExecutor(24) as callers:
        answers = list(callers.map(lambda _: api.submit({"widget": 1}), range(120)))
    placed = {answer.headers["x-trace-id"] for answer in answers}
    receiver = shared_system.receiver

    def shared() -> list[Span]:
        return [span for trace_id in placed for span in receiver.linking_into(trace_id) if span.name == "commit orders"]

    for commit in eventually(shared, what="a transaction that several orders shared"):
        assert (commit.kind, commit.parent_span_id) == ("CLIENT", None)
        assert commit.trace_id not in placed
        assert len(commit.links) > 1
        assert {link.attributes["link.reason"] for link in commit.links} == {"batch_member"}


def test_the_resource_says_who_made_each_span(traced: Traced) -> None:
    for span in traced.spans:
        assert span.resource["service.version"] == "0.1.0"
        assert span.resource["service.instance.id"]
        assert span.resource["deployment.environment.name"] == "local"
    assert len({span.resource["service.instance.id"] for span in traced.spans}) == 2


def test_a_callers_trace_goes_on(api: Api, shared_system: System) -> None:
    answer = api.submit({"widget": 1}, traceparent=CALLER)

    spans = shared_system.receiver.wait_for_trace(CALLER[3:35], lambda found: len(found) >= len(STEPS))

    assert answer.headers["x-trace-id"] == CALLER[3:35]
    (server,) = (span for span in spans if span.kind == "SERVER")
    assert server.parent_span_id == CALLER[36:52]


def _fits(value: object, expected: object) -> bool:
    if isinstance(expected, re.Pattern):
        return isinstance(value, str) and expected.fullmatch(value) is not None
    if isinstance(expected, type):
        return isinstance(value, expected)
    return value == expected
