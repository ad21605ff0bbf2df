"""The broker as people have it: refused logins, virtual hosts that are not there, users that may not configure, other queues."""

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractIncomingMessage
from yarl import URL

from shared.contract import topology
from shared.contract.errors import BrokerUnavailable
from shared.contract.messages import CHECK_TYPE, CheckInventory, InventoryDecision, Item
from shared.rabbit.connection import Connection
from shared.rabbit.publisher import Publisher
from shared.tools import broker_nodes
from shared.tools.local.ports import claim_port, port_of
from shared.tools.queue_reader import QueueState, QueuesUnreadable, read_queues
from tests.broker import files_for_nodes, new_node
from tests.system import System, VirtualHost
from tests.waiting import eventually


@contextmanager
def _user(host: VirtualHost, **permissions: str) -> Iterator[URL]:
    """Make a user that may do so much, and delete it afterwards."""
    name = f"test-{secrets.token_hex(4)}"
    host.api.put(f"/users/{name}", json={"password": "s3cret", "tags": ""}).raise_for_status()
    try:
        if permissions:
            host.api.put(f"/permissions/{host.name}/{name}", json=permissions).raise_for_status()
        yield URL(host.amqp_url).with_user(name).with_password("s3cret")
    finally:
        host.api.delete(f"/users/{name}").raise_for_status()


async def _why_not(url: URL) -> str:
    """Give what `/ready` says of a connection that cannot be made."""
    connection = Connection([str(url)], "test")
    async with connection.running(Publisher(connection).set_up), asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.02)
            try:
                await connection.ping()
            except BrokerUnavailable as error:
                if "RabbitMQ at" in str(error):
                    return str(error)
            else:
                return "there is a connection"


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    connection = Connection([url], "test")
    async with connection.running(Publisher(connection).set_up):
        await asyncio.wait_for(connection.is_up.wait(), 60)
        yield connection


@asynccontextmanager
async def _answering(words: bytes) -> AsyncIterator[URL]:
    """Say the same to whoever connects, and hang up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(words)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield URL.build(scheme="amqp", user="guest", password="guest", host=host, port=port, path="/")


async def test_each_cause_of_no_connection_is_said_exactly_and_without_the_password(
    virtual_host: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    url = URL(virtual_host.amqp_url)
    at = f"not connected to RabbitMQ at {url.host}:{url.port}: "
    with _user(virtual_host) as stranger, _user(virtual_host, configure="", write=".*", read=".*") as guest:
        said = {
            "password": await _why_not(url.with_password("wrong-one")),
            "virtual host": await _why_not(url.with_path("/nowhere")),
            "stranger": await _why_not(stranger),
            "nothing there, and may not configure": await _why_not(guest),
        }

    access = "configure access" if virtual_host.api.get("/overview").json()["rabbitmq_version"] >= "4" else "access"
    assert said == {
        "password": f"{at}it refuses the user 'guest' or the password",
        "virtual host": f"{at}it refuses the virtual host 'nowhere' to 'guest': there is none, or not for this user",
        "stranger": f"{at}it refuses the virtual host '{virtual_host.name}' to '{stranger.user}': "
        "there is none, or not for this user",
        "nothing there, and may not configure": f"{at}the user '{guest.user}' may not do what is needed: "
        f"ACCESS_REFUSED - {access} to exchange 'orders' in vhost '{virtual_host.name}' refused for user '{guest.user}'",
    }
    assert all(sentence in caplog.text for sentence in said.values())
    assert "wrong-one" not in caplog.text
    assert "s3cret" not in caplog.text


async def test_addresses_that_are_no_broker_are_said_to_be_what_they_are(virtual_host: VirtualHost) -> None:
    url = URL(virtual_host.amqp_url)

    assert await _why_not(url.with_port(1)) == f"not connected to RabbitMQ at {url.host}:1: nobody listens there"
    assert "its name is not known" in await _why_not(url.with_host("nobody.invalid"))
    assert "it speaks no TLS that we do" in await _why_not(url.with_scheme("amqps"))
    async with _answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as web:
        assert await _why_not(web) == f"not connected to RabbitMQ at {web.host}:{web.port}: it speaks no AMQP"
    async with _answering(b"") as closing:
        assert (await _why_not(closing)).endswith(": it has closed the connection")


async def test_a_queue_of_another_type_is_named(virtual_host: VirtualHost) -> None:
    async with await aio_pika.connect(virtual_host.amqp_url) as connection:
        await (await connection.channel()).declare_queue(topology.INVENTORY_CHECK, durable=True)

    said = await _why_not(URL(virtual_host.amqp_url))

    assert "what it has under our names is not what is needed: PRECONDITION_FAILED" in said
    assert f"for queue '{topology.INVENTORY_CHECK}'" in said


async def test_a_user_that_may_not_configure_uses_what_is_there(virtual_host: VirtualHost) -> None:
    with _user(virtual_host, configure="", write=".*", read=".*") as url:
        async with _connected(virtual_host.amqp_url), _connected(str(url)) as connection:
            await connection.ping()


async def test_where_the_broker_keeps_no_statistics_what_is_not_known_is_not_shown_as_0() -> None:
    with new_node({"management_agent.disable_metrics_collector": "true"}) as node:
        async with _connected(node.amqp_url) as connection:
            channel = await connection.session().open_channel()
            for _ in range(3):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), topology.INVENTORY_CHECK)

        found = await asyncio.to_thread(_three_ready, node.amqp_url)

    assert (found.in_flight, found.consumed_per_second, found.dead_letters) == (None, None, 0)


def _three_ready(amqp_url: str) -> QueueState:
    def state() -> QueueState | None:
        found = read_queues(amqp_url)
        return found if found.ready == 3 else None

    found = eventually(state, within=60, what="three checks")
    assert found is not None
    return found


@pytest.mark.parametrize("url", ["amqps://127.0.0.1:1/", "amqp://192.0.2.1:1/"])
def test_a_login_goes_nowhere_by_guess_but_to_this_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(httpx, "get", lambda url, **_: asked.append(url))
    monkeypatch.setattr(broker_nodes, "CONNECT_SECONDS", 0.5)

    with pytest.raises(QueuesUnreadable):
        read_queues(url)

    assert asked == []


async def test_a_reply_by_direct_reply_to_arrives_and_its_span_has_not_failed(
    system: System, virtual_host: VirtualHost
) -> None:
    system.start_worker().wait_until_ready()
    replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    check = CheckInventory(order_id="DIRECT", items=(Item(sku="widget", quantity=1),))
    async with await aio_pika.connect(virtual_host.amqp_url) as connection:
        channel = await connection.channel()
        direct = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await direct.consume(replies.put, no_ack=True)
        message = aio_pika.Message(
            check.encode(), type=CHECK_TYPE, correlation_id="DIRECT", reply_to="amq.rabbitmq.reply-to"
        )
        await channel.default_exchange.publish(message, topology.INVENTORY_CHECK)
        reply = await asyncio.wait_for(replies.get(), 60)

    assert InventoryDecision.model_validate_json(reply.body).status == "success"
    sent = eventually(
        lambda: [span for span in system.receiver.spans() if span.name.startswith("send ")], what="the reply's span"
    )
    assert [(span.failed, span.attributes.get("error.type")) for span in sent] == [(False, None)]
    assert virtual_host.queues()[topology.INVENTORY_CHECK] == 0


def _certificates(directory: Path) -> None:
    """Make a private authority, and of it a certificate for the broker and one for a client."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    authority = ["-CA", "ca.pem", "-CAkey", "ca.key"]
    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=ca",
        "-days",
        "2",
    )
    for name in ("broker", "client"):
        openssl(
            *(
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.pem",
                "-days",
                "2",
            ),
            *(
                "-subj",
                f"/CN={name}",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ),
            *authority,
        )
    for file in directory.iterdir():
        file.chmod(0o644)


async def test_amqps_with_a_private_authority_and_a_client_certificate() -> None:
    with files_for_nodes() as (files, seen_as), claim_port() as claim:
        _certificates(files)
        port = port_of(claim)
        tls = {
            "listeners.ssl.1": f"127.0.0.1:{port}",
            "ssl_options.cacertfile": f"{seen_as}/ca.pem",
            "ssl_options.certfile": f"{seen_as}/broker.pem",
            "ssl_options.keyfile": f"{seen_as}/broker.key",
            "ssl_options.verify": "verify_peer",
            "ssl_options.fail_if_no_peer_cert": "true",
        }
        with new_node(tls) as node:
            url = URL(node.amqp_url).with_scheme("amqps").with_port(port)
            ours = {"certfile": f"{files}/client.pem", "keyfile": f"{files}/client.key"}

            async with _connected(str(url.with_query(cafile=f"{files}/ca.pem", **ours))) as connection:
                await connection.ping()

            assert "its certificate is not trusted" in await _why_not(url.with_query(ours))
            assert await _why_not(url.with_query(cafile=f"{files}/ca.pem")) != "there is a connection"
