"""Every kind of exchange, queue and key on a real broker: what its spans are called, and what stands whole in them."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aio_pika
import pytest
from aio_pika.abc import AbstractRobustConnection

from shared.telemetry import Destination, Template
from tests.package.conftest import Instrument, Traced, acknowledge, attributes
from tests.system import VirtualHost

ID = UUID(int=0x4711_4711_4711_4711_4711_4711_4711_4711)


@dataclass(frozen=True)
class Way:
    """A way for a message to go, and what is said of it."""

    what: str
    exchange: str
    kind: str
    key: str
    queue: str | None
    send: str
    process: str
    sent_to: str
    came_from: str
    declared: dict[str, Any] = field(default_factory=dict)
    """How the queue is declared."""
    binding: str | None = None
    through: str | None = None
    """A second exchange, between the first one and the queue."""
    flags: frozenset[str] = frozenset()
    """`temporary`, `anonymous`: what is said of the destination that a message came from."""


WAYS = [
    Way("a queue by its name", "", "", "jobs", "jobs", "send jobs", "process jobs", "jobs", "jobs"),
    Way("a named queue that is exclusive", "", "", "board", "board", "send board", "process", "board", "board",
        {"exclusive": True}, flags=frozenset({"temporary"})),
    Way("a direct key", "tasks", "direct", "resize", "resizers", "send tasks:resize", "process tasks:resize:resizers",
        "tasks:resize", "tasks:resize:resizers"),
    Way("a direct key that its queue is named after", "tasks", "direct", "resize", "resize", "send tasks:resize",
        "process tasks:resize", "tasks:resize", "tasks:resize"),
    Way("a direct key that is an id", "tasks", "direct", str(ID), "resizers", "send tasks", "process tasks:resizers",
        f"tasks:{ID}", f"tasks:{ID}:resizers"),
    Way("a queue that is named by an id", "tasks", "direct", "resize", f"of-{ID}", "send tasks:resize",
        "process tasks:resize", "tasks:resize", f"tasks:resize:of-{ID}"),
    Way("a topic", "parcels", "topic", "parcel.4711.scanned", "scans", "send parcels", "process parcels:scans",
        "parcels:parcel.4711.scanned", "parcels:parcel.4711.scanned:scans", binding="parcel.*.scanned"),
    Way("a topic that its queue is named after", "orders", "topic", "check", "check", "send orders",
        "process orders:check", "orders:check", "orders:check"),
    Way("a fanout", "news", "fanout", "", "readers", "send news", "process news:readers", "news", "news:readers"),
    Way("a fanout with a key that means nothing", "news", "fanout", "n.4711", "readers", "send news",
        "process news:readers", "news:n.4711", "news:n.4711:readers"),
    Way("headers", "claims", "headers", "c.4711", "desk", "send claims", "process claims:desk", "claims:c.4711",
        "claims:c.4711:desk"),
    Way("an exchange behind another", "entry", "topic", "in.4711", "archive", "send entry", "process entry:archive",
        "entry:in.4711", "entry:in.4711:archive", binding="#", through="inner"),
    Way("a temporary queue on a fanout", "news", "fanout", "", "of-this-screen", "send news", "process news", "news",
        "news:of-this-screen", {"exclusive": True}, flags=frozenset({"temporary"})),
    Way("what the broker has declared", "amq.topic", "topic", "t.4711", "all", "send amq.topic", "process amq.topic:all",
        "amq.topic:t.4711", "amq.topic:t.4711:all", binding="#"),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.what)
async def test_names_hold_what_takes_few_values_and_attributes_the_whole(
    way: Way, traced: Traced, connection: AbstractRobustConnection
) -> None:
    await _send(connection, way)

    send, process = await traced.the("send"), await traced.the("process")

    assert (send.name, process.name) == (way.send, way.process)
    assert attributes(send)["messaging.destination.name"] == way.sent_to
    assert attributes(process)["messaging.destination.name"] == way.came_from
    for span in (send, process):
        assert attributes(span).get("messaging.rabbitmq.destination.routing_key", "") == way.key
        assert "messaging.destination.template" not in attributes(span)
    assert _flags(attributes(process)) == way.flags


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.what)
async def test_metrics_hold_what_names_hold(way: Way, traced: Traced, connection: AbstractRobustConnection) -> None:
    await _send(connection, way)

    await traced.ended("process")

    for metric, name in (
        ("messaging.client.sent.messages", way.send),
        ("messaging.client.operation.duration", way.send),
        ("messaging.client.consumed.messages", way.process),
        ("messaging.process.duration", way.process),
    ):
        (point,) = traced.points(metric)
        operation, _, destination = name.partition(" ")
        assert point["messaging.operation.name"] == point["messaging.operation.type"] == operation
        assert point.get("messaging.destination.name", "") == destination
        assert (point["messaging.system"], point["server.address"]) == ("rabbitmq", "127.0.0.1")
        assert isinstance(point["server.port"], int)


@pytest.mark.parametrize("robust", [True, False])
async def test_a_queue_that_got_its_name_from_broker_or_client_is_in_no_name(
    robust: bool, traced: Traced, connection: AbstractRobustConnection, virtual_host: VirtualHost
) -> None:
    plain = await aio_pika.connect(virtual_host.amqp_url)
    async with plain:
        channel = await (connection if robust else plain).channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.consume(acknowledge)
        await channel.default_exchange.publish(aio_pika.Message(b""), queue.name)
        send, process = await traced.the("send"), await traced.the("process")

    assert (send.name, process.name) == ("send", "process")
    assert (
        attributes(send)["messaging.destination.name"]
        == attributes(process)["messaging.destination.name"]
        == queue.name
    )
    assert _flags(attributes(send)) == {"anonymous"}
    assert _flags(attributes(process)) == {"anonymous", "temporary"}


async def test_each_of_several_queues_on_one_exchange_has_its_name(
    traced: Traced, connection: AbstractRobustConnection
) -> None:
    channel = await connection.channel()
    news = await channel.declare_exchange("news", "fanout")
    for name in ("readers", "archive"):
        queue = await channel.declare_queue(name)
        await queue.bind(news)
        await queue.consume(acknowledge)

    await news.publish(aio_pika.Message(b""), "")
    processes = await traced.ended("process", 2)

    assert {span.name for span in processes} == {"process news:readers", "process news:archive"}


async def test_an_exchange_that_was_not_declared_here_shows_no_key(
    traced: Traced, connection: AbstractRobustConnection
) -> None:
    channel = await connection.channel()
    elsewhere = await channel.get_exchange("amq.rabbitmq.trace", ensure=False)

    with pytest.raises(aio_pika.exceptions.AMQPError):
        await elsewhere.publish(aio_pika.Message(b""), "some.key", mandatory=False, timeout=10)

    send = await traced.the("send")
    assert send.name == "send amq.rabbitmq.trace"
    assert attributes(send)["error.type"].startswith("aiormq.exceptions.Channel")
    (point,) = traced.points("messaging.client.sent.messages")
    assert point["error.type"] == attributes(send)["error.type"]


async def test_a_thousand_keys_make_a_hundred_names(traced: Traced, connection: AbstractRobustConnection) -> None:
    channel = await connection.channel()
    users = await channel.declare_exchange("users", "direct")

    for number in range(1000):
        await users.publish(aio_pika.Message(b""), f"user-{number}", mandatory=False)

    assert len({span.name for span in traced.named("send")}) == 101
    assert len(traced.points("messaging.client.sent.messages")) == 101


@pytest.mark.parametrize(
    ("key", "is_few"),
    [
        ("order-4711", False),
        ("order_4711", False),
        ("2026-11-25", False),
        ("report.20261125", False),
        ("user.bob@example.com", False),
        ("user.bob%40example.com", False),
        ("replies-web-7f9c8d6b5-abcde", False),
        ("replies-web-7f9c8d6b5-x2x4z", False),
        ("replies.web-bdfhjlxz-x2x4z.in", False),
        (f"user.{ID}", False),
        ("shard.3", True),
        ("v2.orders", True),
        ("http2-requests", True),
        ("tenant_acme", True),
        ("inventory.check", True),
        ("inventory.check.retry.500ms", True),
        ("inventory.check.retry.2000ms", True),
        ("orders-inventory-check", True),
        ("payments-retention-later", True),
    ],
)
async def test_what_looks_like_an_id_a_person_a_day_or_a_pod_is_in_no_name(
    key: str, is_few: bool, traced: Traced, connection: AbstractRobustConnection
) -> None:
    tasks = await (await connection.channel()).declare_exchange("tasks", "direct")

    await tasks.publish(aio_pika.Message(b""), key, mandatory=False)

    assert (await traced.the("send")).name == (f"send tasks:{key}" if is_few else "send tasks")


async def test_a_template_is_the_name_and_stands_beside_it(
    instrument: Instrument, connection: AbstractRobustConnection
) -> None:
    def template(destination: Destination) -> Template | None:
        is_scan = destination.routing_key.endswith(".scanned")
        return Template("parcels:parcel.{id}.scanned", is_temporary=True) if is_scan else None

    traced = instrument(destination_template=template)
    await _send(connection, next(way for way in WAYS if way.what == "a topic"))
    send, process = await traced.the("send"), await traced.the("process")

    assert (send.name, process.name) == ("send parcels:parcel.{id}.scanned", "process parcels:parcel.{id}.scanned")
    assert attributes(send)["messaging.destination.template"] == "parcels:parcel.{id}.scanned"
    assert attributes(send)["messaging.destination.name"] == "parcels:parcel.4711.scanned"
    (point,) = traced.points("messaging.process.duration")
    assert point["messaging.destination.template"] == "parcels:parcel.{id}.scanned"
    assert "messaging.destination.name" not in point


async def test_a_template_that_fails_costs_no_message(
    instrument: Instrument, connection: AbstractRobustConnection, caplog: pytest.LogCaptureFixture
) -> None:
    traced = instrument(destination_template=lambda _: 1 / 0)

    await _send(connection, WAYS[0])

    assert (await traced.the("process")).name == "process jobs"
    assert "the template of a destination failed" in caplog.text


async def _send(connection: AbstractRobustConnection, way: Way) -> None:
    channel = await connection.channel()
    queue = await channel.declare_queue(way.queue, **way.declared)
    exchange = channel.default_exchange
    if way.exchange:
        is_ours = not way.exchange.startswith("amq.")
        exchange = await (
            channel.declare_exchange(way.exchange, way.kind) if is_ours else channel.get_exchange(way.exchange)
        )
        last = exchange
        if way.through:
            last = await channel.declare_exchange(way.through, "fanout")
            await last.bind(exchange, "#")
        arguments: Any = {"x-match": "all", "of": "us"} if way.kind == "headers" else None
        await queue.bind(last, way.binding or way.key, arguments=arguments)
    await queue.consume(acknowledge)
    await exchange.publish(aio_pika.Message(b"", headers={"of": "us"}), way.key)


def _flags(found: dict[str, Any]) -> set[str]:
    return {flag for flag in ("temporary", "anonymous") if found.get(f"messaging.destination.{flag}")}
