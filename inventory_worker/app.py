"""Puts the inventory worker together: what it needs, in the order in which it comes up and, reversed, goes down."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from inventory_worker import routes, stock_table
from inventory_worker.reserve import Reserve
from inventory_worker.settings import Settings
from inventory_worker.stock_store import SqlStockStore
from shared.rabbit.connection import Connection, ping_all
from shared.rabbit.consumer import drain
from shared.rabbit.delivery import Deliveries, Handler
from shared.rabbit.publisher import Publisher
from shared.rabbit.settle import DeliveryOutcome
from shared.service.http import new_app
from shared.service.telemetry_settings import TelemetrySettings
from shared.storage.database import Database
from shared.storage.retention import Retention
from shared.tracing import known_series, queues

DRAIN_SECONDS = 10.0


def create_app(settings: Settings, _: TelemetrySettings, instance: str) -> FastAPI:
    """Build the application; nothing connects before its lifespan begins."""
    fill = partial(stock_table.put_initial_stock, initial=settings.initial_stock)
    database = Database(settings.database_url, stock_table.MIGRATIONS, fill)
    store = SqlStockStore(database)
    reserve = Reserve(store)
    decisions = stock_table.decisions.c
    retention = Retention(database, decisions.order_id, decisions.decided_at, settings.retention_days)
    urls = settings.amqp_url.split(",")
    publishing, consuming = (
        Connection(urls, f"inventory-worker {instance} {what}") for what in ("publishes", "consumes")
    )
    publisher = Publisher(publishing)
    handler = Handler(reserve.reserve, reserve.refuse, "database", database.ping)
    deliveries = Deliveries(
        publisher,
        handler,
        retry_delays=settings.retry_delays,
        reply_prefixes=settings.reply_queue_prefixes,
        max_message_bytes=settings.max_message_bytes,
    )

    queues.observe_connections({"publishes": publishing.state, "consumes": consuming.state})
    known_series.begin_checks(
        DeliveryOutcome.ACK, DeliveryOutcome.RETRY, DeliveryOutcome.DEAD_LETTER, settings.amqp_url
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, routes.Resources]]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(database.open())
            await stack.enter_async_context(store.running())
            await stack.enter_async_context(retention.running())
            await stack.enter_async_context(publishing.running(publisher.set_up))
            await stack.enter_async_context(consuming.running(deliveries.set_up))
            stack.push_async_callback(drain, deliveries.consumer, timeout=DRAIN_SECONDS)
            yield {"resources": routes.Resources(store)}

    return new_app(
        "Traced Orders: inventory worker",
        "Reserves stock for the checks that arrive over RabbitMQ.",
        lifespan,
        {"broker": partial(ping_all, publishing, consuming), "database": database.ping},
        routes.router,
        settings.order_api_key,
    )
