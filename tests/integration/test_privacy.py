"""Personal data: kept in the orders database and nowhere else, whichever way it comes in."""

import asyncio
import gzip
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import aio_pika
import httpx
import pytest

from shared.contract.messages import CHECK_TYPE
from tests.system import TestBroker, VirtualHost, new_id, order_body, running_system

LOCAL_PART, DOMAIN = "ada.lovelace", "analytical.example"
EMAIL = f"{LOCAL_PART}@{DOMAIN}"
ENCODED = EMAIL.replace("@", "%40")
CUSTOMER = "customer-4711-secret"
PERSONAL = (LOCAL_PART, DOMAIN, CUSTOMER)
"""Parts, so that an address is found that was encoded, or masked in half; looked for in any case."""
CALLER = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


class WireTap:
    """Takes everything that a service exports, as the bytes that came over the wire: text in OTLP is plain UTF-8."""

    def __init__(self) -> None:
        self.exported: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _tapping(self.exported))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def of(self, signal: str) -> bytes:
        return self.exported.get(f"/api/default/v1/{signal}", b"")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _tapping(exported: dict[str, bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            exported[self.path] = exported.get(self.path, b"") + body
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@dataclass(frozen=True)
class Left:
    """All that left the services while personal data went in, and what was kept."""

    places: dict[str, str]
    answers: list[httpx.Response]
    stored: list[str]


@pytest.fixture(scope="module", params=["tracecontext", "tracecontext,baggage"])
def left(
    request: pytest.FixtureRequest, broker: TestBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Left]:
    directory = tmp_path_factory.mktemp("privacy")
    with WireTap() as tap, broker.virtual_host() as host, running_system(host.amqp_url, directory) as system:
        environment = {
            "OPENOBSERVE_URL": tap.url,
            "OTEL_PROPAGATORS": request.param,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "LOG_LEVEL": "DEBUG",
        }
        worker = system.start_worker(**environment).wait_until_ready()
        api = system.start_api(**environment)
        api.service.wait_until_ready()
        asyncio.run(_spy(host))

        answers = _send_everything(api.service.url, worker.url)
        asyncio.run(_ask_as_a_stranger(host))
        last = httpx.post(f"{api.service.url}/orders", json=order_body({"widget": 1}), trust_env=False, timeout=60)
        api.service.end()
        worker.end()

        with closing(sqlite3.connect(directory / "orders.db")) as orders:
            stored = [row[0] for row in orders.execute("SELECT customer FROM orders WHERE customer IS NOT NULL")]
        yield Left(
            {
                "spans": tap.of("traces").decode("latin-1"),
                "logs": tap.of("logs").decode("latin-1"),
                "metrics": tap.of("metrics").decode("latin-1"),
                "the API's console": api.service.log,
                "the worker's console": worker.log,
                "the wire": asyncio.run(_overheard(host)),
            },
            [*answers, last],
            stored,
        )


@pytest.mark.parametrize("place", ["spans", "logs", "metrics", "the API's console", "the worker's console", "the wire"])
def test_no_personal_data_is_in(left: Left, place: str) -> None:
    said = left.places[place].lower()

    assert len(said) > 500  # it was looked at in the right place
    for personal in PERSONAL:
        found = said.find(personal)
        assert found < 0, said[max(0, found - 300) : found + 200]


def test_the_customer_is_stored_and_is_in_no_answer(left: Left) -> None:
    placed = [answer for answer in left.answers if answer.status_code == 201]

    assert len(placed) >= 4
    assert {json.loads(customer)["email"] for customer in left.stored} == {EMAIL}
    assert {json.loads(customer)["id"] for customer in left.stored} == {CUSTOMER}
    for answer in left.answers:
        # Of an invalid request, the answer may name the field, which the caller has made up.
        if answer.status_code not in {404, 422}:
            assert not [personal for personal in PERSONAL if personal in answer.text.lower()]
    assert all(answer.status_code < 500 for answer in left.answers)


def test_every_trace_goes_on_although_its_state_was_dropped(left: Left) -> None:
    assert bytes.fromhex("1" * 32).decode("latin-1") in left.places["spans"]


def _send_everything(api: str, worker: str) -> list[httpx.Response]:
    """Put personal data where it belongs, and then everywhere else."""
    body = {**order_body({"widget": 1}), "customer": {"id": CUSTOMER, "email": EMAIL}}
    hostile_headers = {
        "User-Agent": f"mailer/1.0 ({EMAIL})",
        "Referer": f"https://shop.example/?customer={CUSTOMER}",
        "Cookie": f"customer={CUSTOMER}; email={EMAIL}",
        "Authorization": f"Bearer {CUSTOMER}",
        "From": EMAIL,
        "Forwarded": f"for={EMAIL}",
        "X-Request-Id": CUSTOMER,
        "X-API-Key": EMAIL,
        "traceparent": CALLER,
        "tracestate": f"shop={EMAIL},other={ENCODED}",
        "baggage": f"email={ENCODED},owner={EMAIL}",
    }
    with httpx.Client(timeout=60, trust_env=False) as http:
        placed = new_id()
        return [
            http.post(f"{api}/orders", json={**body, "order_id": placed}),
            http.post(f"{api}/orders", json={**body, "order_id": placed}),
            http.post(f"{api}/orders", json={**body, **order_body({"gadget": 1}), "order_id": placed}),
            http.post(f"{api}/orders", json=body, headers=hostile_headers),
            http.post(f"{api}/orders", json={**body, **order_body({"gadget": 999})}),
            http.post(f"{api}/orders", json={**body, **order_body({"nothing-known": 1})}),
            http.post(f"{api}/orders", json=body, headers={"traceparent": EMAIL, "tracestate": EMAIL}),
            http.post(f"{api}/orders", json=body, headers={"Host": EMAIL}),
            http.post(f"{api}/orders", json=body, params={"email": EMAIL, "customer_id": CUSTOMER, EMAIL: "1"}),
            http.post(f"{api}/orders", json={**body, "order_id": EMAIL}),
            http.post(f"{api}/orders", json={**body, **order_body({EMAIL: 1})}),
            http.post(f"{api}/orders", json={**body, EMAIL: CUSTOMER}),
            http.post(f"{api}/orders", json={**body, "customer": {"id": CUSTOMER * 100, "email": EMAIL}}),
            http.post(f"{api}/orders", json={**body, "customer": f"{CUSTOMER} <{EMAIL}>"}),
            http.post(f"{api}/orders", content=json.dumps(body)[:-2], headers={"Content-Type": "application/json"}),
            http.post(f"{api}/orders", content=json.dumps(body), headers={"Content-Type": EMAIL}),
            http.post(f"{api}/orders", content=(EMAIL + CUSTOMER) * 10_000),
            http.post(f"{api}/orders/create", params={"order_id": EMAIL}),
            http.post(f"{api}/orders/create", params={"order_id": new_id(), "customer": CUSTOMER, "to": EMAIL}),
            http.get(f"{api}/orders/{EMAIL}"),
            http.get(f"{api}/orders/{ENCODED}"),
            http.get(f"{api}/no/such/page/{EMAIL}", params={"customer": CUSTOMER}),
            http.request(EMAIL.replace("@", "-").upper(), f"{api}/orders"),
            http.get(f"{worker}/inventory/{EMAIL}"),
            http.get(f"{worker}/inventory", params={"for": CUSTOMER}, headers=hostile_headers),
            http.put(f"{worker}/inventory/{EMAIL}", json={"available": 1}),
            http.put(f"{worker}/inventory/widget", json={"available": EMAIL}),
        ]


async def _ask_as_a_stranger(host: VirtualHost) -> None:
    """Send the worker checks with personal data in every property but the queue to reply to."""
    async with await aio_pika.connect(host.amqp_url) as connection:
        channel = await connection.channel()
        body = json.dumps({"order_id": EMAIL, "items": [{"sku": CUSTOMER, "quantity": EMAIL}], "customer": CUSTOMER})
        for content in (body, EMAIL, CUSTOMER):
            message = aio_pika.Message(
                content.encode(),
                type=CHECK_TYPE,
                correlation_id=EMAIL,
                message_id=EMAIL,
                app_id=EMAIL,
                headers={"email": EMAIL, "traceparent": EMAIL, "tracestate": EMAIL, "baggage": f"email={EMAIL}"},
            )
            await channel.default_exchange.publish(message, "inventory.check")


async def _spy(host: VirtualHost) -> None:
    """Have a copy of every message on the orders exchange kept."""
    async with await aio_pika.connect(host.amqp_url) as connection:
        queue = await (await connection.channel()).declare_queue("spy", durable=True)
        await queue.bind("orders", "#")


async def _overheard(host: VirtualHost) -> str:
    heard: list[Any] = []
    async with await aio_pika.connect(host.amqp_url) as connection:
        queue = await (await connection.channel()).get_queue("spy")
        while (message := await queue.get(fail=False, no_ack=True)) is not None:
            heard.append((message.body, message.info()))
    return str(heard)
