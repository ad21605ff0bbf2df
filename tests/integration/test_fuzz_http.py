"""What nobody thought of: requests made from the OpenAPI documents, and messages of any bytes and headers."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import aio_pika
import httpx
import pytest
import schemathesis
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from shared.contract.messages import CHECK_TYPE, DECISION_TYPE
from tests.system import (
    Api,
    Service,
    System,
    TestBroker,
    VirtualHost,
    new_id,
    order_body,
    running_system,
    stock_levels,
)
from tests.waiting import eventually

OPERATIONS = [
    ("order-api", "POST", "/orders"),
    ("order-api", "POST", "/orders/create"),
    ("order-api", "GET", "/orders/{order_id}"),
    ("order-api", "GET", "/health"),
    ("order-api", "GET", "/ready"),
    ("inventory-worker", "GET", "/inventory"),
    ("inventory-worker", "GET", "/inventory/{sku}"),
    ("inventory-worker", "PUT", "/inventory/{sku}"),
    ("inventory-worker", "GET", "/health"),
    ("inventory-worker", "GET", "/ready"),
]
CHECKS: list[Any] = [
    status_code_conformance,  # a 500 is in no document, a 503 is where the store can be away
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
    unsupported_method,
]
FUZZED = settings(
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
KEY = "s3cret-0123456789"


def _sizes(few: int, many: int) -> pytest.MarkDecorator:
    """Try few cases, the same ones each time, or many, new ones each time; one that fails is printed with its blob."""
    return pytest.mark.parametrize(
        "cases",
        [
            pytest.param(settings(FUZZED, max_examples=few, derandomize=True), id=f"the same {few}"),
            pytest.param(
                settings(FUZZED, max_examples=many, derandomize=False),
                marks=[pytest.mark.long, pytest.mark.timeout(1800)],
                id=f"{many} new ones",
            ),
        ],
    )


@_sizes(25, 500)
@pytest.mark.parametrize(("service", "method", "path"), OPERATIONS)
def test_every_answer_is_as_the_openapi_document_says(
    api: Api, shared_worker: Service, service: str, method: str, path: str, cases: settings
) -> None:
    url = api.service.url if service == "order-api" else shared_worker.url
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")[path][method]

    @cases
    @given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)))
    def answers_as_documented(case: schemathesis.Case[Any]) -> None:
        # The document asks for the key, and here none is set: a missing one is no fault.
        is_without_key = method != "GET" and "X-API-Key" not in (case.headers or {})
        checks = [check for check in CHECKS if not (is_without_key and check is negative_data_rejection)]
        case.call_and_validate(checks=checks)

    answers_as_documented()


def test_the_operations_above_are_all_there_are(api: Api, shared_worker: Service) -> None:
    documented = {
        (name, method.upper(), path)
        for name, url in (("order-api", api.service.url), ("inventory-worker", shared_worker.url))
        for path, methods in httpx.get(f"{url}/openapi.json", trust_env=False).json()["paths"].items()
        for method in methods
    }

    assert documented == set(OPERATIONS)


@pytest.fixture(scope="module")
def fuzzed_host(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VirtualHost, Service]]:
    """A worker on a virtual host of this module's own, where every queue is its alone."""
    with (
        broker.virtual_host() as host,
        running_system(host.amqp_url, tmp_path_factory.mktemp("fuzzed")) as system,
    ):
        yield host, system.start_worker().wait_until_ready()


HEADER_NAMES = st.one_of(
    st.sampled_from(
        [
            "traceparent",
            "tracestate",
            "baggage",
            "x-failures",
            "x-published-at-us",
            "x-previous-attempt",
            "x-replay-of",
            "x-delivery-count",
            "x-death",
        ]
    ),
    st.text(max_size=20).filter(lambda name: name.startswith("x-") is False and name not in {"CC", "BCC"}),
)
HEADER_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(width=32, allow_nan=False, allow_infinity=False)  # which RabbitMQ itself cannot read
    | st.text(max_size=50)
    | st.binary(max_size=50).map(bytearray)
    | st.datetimes(min_value=datetime(1970, 1, 2)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["order_id", "items", "sku", "quantity", "reason"]), inner, max_size=4)
        ),
    ).map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda order_id, sku, quantity: json.dumps(
            {"order_id": order_id, "items": [{"sku": sku, "quantity": quantity}]}
        ).encode(),
        st.from_regex(r"[A-Za-z0-9._-]{0,66}\Z") | st.text(max_size=5),
        st.sampled_from(["widget", "gadget", "nothing", ""]),
        st.integers(-1, 2_000_000),
    ),
)
MESSAGES = st.builds(
    aio_pika.Message,
    BODIES,
    type=st.sampled_from([CHECK_TYPE, CHECK_TYPE, CHECK_TYPE, DECISION_TYPE]) | st.none() | st.text(max_size=20),
    correlation_id=st.none() | st.text(max_size=60),
    reply_to=st.none() | st.sampled_from(["inventory.check", "no-such-queue"]) | st.text(max_size=20),
    message_id=st.none() | st.text(max_size=20),
    headers=st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=4),
)


@_sizes(300, 10_000)
def test_every_message_is_settled_whatever_it_holds(fuzzed_host: tuple[VirtualHost, Service], cases: settings) -> None:
    """What cannot be read is a dead letter, what can is decided, and the worker takes the next."""
    host, worker = fuzzed_host
    sent = 0

    with asyncio.Runner() as runner:
        connection, channel, exchange = runner.run(_connect(host))

        @cases
        @given(message=MESSAGES)
        def publish(message: aio_pika.Message) -> None:
            nonlocal sent
            runner.run(exchange.publish(message, "inventory.check"))
            sent += 1

        try:
            publish()
            replies = runner.run(channel.declare_queue(exclusive=True))
            body = json.dumps(order_body({"widget": 1}, "LAST")).encode()
            last = aio_pika.Message(body, type=CHECK_TYPE, correlation_id="LAST", reply_to=replies.name)
            runner.run(exchange.publish(last, "inventory.check"))
            eventually(lambda: runner.run(replies.get(fail=False)), within=60, what="the reply to the last message")
        finally:
            runner.run(connection.close())

    def left() -> dict[str, int]:
        return {name: count for name, count in host.queues().items() if count and name != "inventory.check.dead"}

    assert sent >= 200
    eventually(lambda: not left(), within=60, what="empty queues")
    eventually(lambda: host.queues()["inventory.check.dead"], within=30, what="dead letters")
    assert worker.is_ready()
    assert stock_levels(worker)["widget"] >= 0
    assert worker.log.count("Traceback") == 0


async def _connect(host: VirtualHost) -> tuple[AbstractConnection, AbstractChannel, AbstractExchange]:
    connection = await aio_pika.connect(host.amqp_url)
    channel = await connection.channel()
    return connection, channel, await channel.get_exchange("orders")


@pytest.fixture(scope="module")
def guarded(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with (
        broker.virtual_host() as host,
        running_system(host.amqp_url, tmp_path_factory.mktemp("guarded")) as system,
    ):
        system.start_worker()
        api = system.start_api(ORDER_API_KEY=KEY, REPLY_TIMEOUT="30")
        api.service.wait_until_ready()
        yield api


@pytest.mark.parametrize("given_key", [None, "", "wrong", KEY[:-1], KEY + "x", "\u00ff" * 1000])
def test_without_the_api_key_nothing_is_placed(guarded: Api, given_key: str | None) -> None:
    headers = {} if given_key is None else {b"X-API-Key": given_key.encode()}
    order_id = new_id()

    answers = [
        guarded.http.post("/orders", json=order_body({"widget": 1}, order_id), headers=headers),
        guarded.http.post("/orders/create", params={"order_id": order_id}, headers=headers),
    ]

    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"]
        assert answer.json()["title"] == "Unauthorized"
        assert KEY not in answer.text
    assert guarded.http.get(f"/orders/{order_id}").status_code == 404


def test_with_the_api_key_orders_are_placed_and_reading_is_open(guarded: Api) -> None:
    headers = {"X-API-Key": KEY}

    placed = guarded.http.post("/orders", json=order_body({"widget": 1}, new_id()), headers=headers)
    created = guarded.http.post("/orders/create", params={"order_id": new_id()}, headers=headers)

    assert (placed.status_code, created.status_code) == (201, 200)
    assert guarded.http.get(f"/orders/{placed.json()['order_id']}").status_code == 200
    assert guarded.http.get("/health").status_code == guarded.http.get("/ready").status_code == 200
    assert KEY not in guarded.service.log


def test_the_api_key_guards_restocking_too_and_reading_the_stock_is_open(system: System) -> None:
    worker = system.start_worker(ORDER_API_KEY=KEY).wait_until_ready()
    with httpx.Client(base_url=worker.url, timeout=30, trust_env=False) as http:
        refused = http.put("/inventory/widget", json={"available": 1})
        restocked = http.put("/inventory/widget", json={"available": 2}, headers={"X-API-Key": KEY})

        assert (refused.status_code, restocked.status_code) == (401, 200)
        assert http.get("/inventory/widget").json()["available"] == 2
