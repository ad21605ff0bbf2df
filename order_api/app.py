"""Puts the order API together: what it needs, in the order in which it comes up and, reversed, goes down."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from order_api import order_table, routes
from order_api.checks import SEND_SECONDS, Checks
from order_api.order_store import SqlOrderStore
from order_api.order_writes import order_commits
from order_api.orders import PlacementKind
from order_api.outbox import Outbox
from order_api.pending import PendingOrders
from order_api.relay import Relay
from order_api.replies import Replies, ReplyKind
from order_api.settings import Settings
from shared.rabbit.connection import Connection, ping_all
from shared.rabbit.consumer import drain
from shared.rabbit.publisher import Publisher
from shared.rabbit.queue_watch import QueueWatch
from shared.service.http import begin_requests, new_app
from shared.service.telemetry_settings import TelemetrySettings
from shared.storage.database import Database
from shared.storage.retention import Retention
from shared.tracing import instruments, known_series, queues

DRAIN_SECONDS = 5.0
SHORTEST_ASK_DELAY = SEND_SECONDS + 5.0


def create_app(settings: Settings, telemetry: TelemetrySettings, instance: str) -> FastAPI:
    """Build the application; nothing connects before its lifespan begins."""
    database = Database(settings.database_url, order_table.MIGRATIONS)
    # Asking again before the first check can have been answered would double the load just when the worker is behind.
    commits = order_commits(database, first_ask_delay=max(2 * settings.reply_timeout, SHORTEST_ASK_DELAY))
    store, outbox = SqlOrderStore(database, commits), Outbox(database, commits)
    urls = settings.amqp_url.split(",")
    publishing, consuming = (Connection(urls, f"order-api {instance} {what}") for what in ("publishes", "consumes"))
    publisher = Publisher(publishing)
    checks = Checks(publisher, lambda: replies.queue)
    replies = Replies(
        store,
        instance,
        database.ping,
        on_decided=checks.forget,
        on_delayed=outbox.postpone,
        max_message_bytes=settings.max_message_bytes,
    )
    orders = order_table.orders.c
    retention = Retention(database, orders.order_id, orders.decided_at, settings.retention_days)
    pending = PendingOrders(outbox)
    watch = QueueWatch(consuming, urls, settings.rabbitmq_management_url)
    relay = Relay(outbox, checks, replies, publishing)

    instruments.observe_waiting(lambda: replies.waiting)
    queues.observe_connections({"publishes": publishing.state, "consumes": consuming.state})
    queues.observe_queues(lambda: watch.readings)
    known_series.begin_orders(PlacementKind, ReplyKind, urls[0])
    begin_requests({"/orders": (200, 201, 202), "/orders/create": (200, 202)})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, routes.Resources]]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(database.open())
            await stack.enter_async_context(commits.running())
            await stack.enter_async_context(retention.running())
            await stack.enter_async_context(publishing.running(publisher.set_up))
            await stack.enter_async_context(checks.running())
            await stack.enter_async_context(consuming.running(replies.set_up))
            stack.push_async_callback(drain, *replies.consumers, timeout=DRAIN_SECONDS)
            await stack.enter_async_context(relay.running())
            await stack.enter_async_context(pending.running())
            await stack.enter_async_context(watch.running())
            yield {"resources": routes.Resources(settings, telemetry, store, checks, replies)}

    return new_app(
        "Traced Orders: order API",
        "Takes orders, asks the inventory over RabbitMQ, keeps one trace an order.",
        lifespan,
        {"broker": partial(ping_all, publishing, consuming), "database": database.ping},
        routes.router,
        settings.order_api_key,
        replies.stop_waiting,
    )
