"""Puts the inventory worker together: what it needs, in the order in which it comes up and, reversed, goes down."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from inventory_worker import routes as http
from inventory_worker import stock_store
from inventory_worker.consumer import Consumer
from inventory_worker.settings import Settings
from inventory_worker.stock_store import SqlStockStore
from shared.rabbit.broker import Broker
from shared.service.http import new_app
from shared.service.providers import TelemetrySettings
from shared.storage.database import Database

DRAIN_SECONDS = 10.0


def create_app(settings: Settings, _: TelemetrySettings, instance: str) -> FastAPI:
    """Build the application; nothing connects before its lifespan begins."""
    fill = partial(stock_store.put_initial_stock, initial=settings.initial_stock)
    database = Database(settings.database_url, stock_store.metadata, fill)
    store = SqlStockStore(database)
    broker = Broker(settings.amqp_url.split(","), f"inventory-worker {instance}")
    consumer = Consumer(broker, store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, SqlStockStore]]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(database.open())
            await stack.enter_async_context(store.running())
            await stack.enter_async_context(broker.running(consumer.on_connect))
            stack.push_async_callback(broker.drain, DRAIN_SECONDS)
            yield {"store": store}

    app = new_app(
        "Traced Orders: inventory worker",
        "Reserves stock for the checks that arrive over RabbitMQ.",
        lifespan,
        {"broker": broker.ping, "database": database.ping},
        settings.order_api_key,
    )
    app.include_router(http.router)
    return app
