"""Puts the order API together: what it needs, in the order in which it comes up and, reversed, goes down."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from order_api import order_store, routes
from order_api.inventory_client import InventoryClient
from order_api.order_store import SqlOrderStore
from order_api.relay import Relay
from order_api.settings import Settings
from shared.rabbit.broker import Broker
from shared.service.http import new_app
from shared.service.providers import TelemetrySettings
from shared.storage.database import Database
from shared.tracing import instruments as metrics

DRAIN_SECONDS = 5.0
SHORTEST_ASK_DELAY = 5.0


def create_app(settings: Settings, telemetry: TelemetrySettings, instance: str) -> FastAPI:
    """Build the application; nothing connects before its lifespan begins."""
    database = Database(settings.database_url, order_store.metadata)
    # Asking again before the first question can have been answered would double the load just when the worker is behind.
    store = SqlOrderStore(database, first_ask_delay=max(2 * settings.reply_timeout, SHORTEST_ASK_DELAY))
    broker = Broker(settings.amqp_url.split(","), f"order-api {instance}")
    inventory = InventoryClient(broker, store, instance)

    metrics.observe_waiting(lambda: inventory.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, routes.Context]]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(database.open())
            await stack.enter_async_context(store.running())
            await stack.enter_async_context(broker.running(inventory.on_connect))
            stack.push_async_callback(broker.drain, DRAIN_SECONDS)
            await stack.enter_async_context(Relay(store, inventory, broker).running())
            yield {"context": routes.Context(settings, telemetry, store, inventory)}

    app = new_app(
        "Traced Orders: order API",
        "Takes orders, asks the inventory over RabbitMQ, keeps one trace an order.",
        lifespan,
        {"broker": broker.ping, "database": database.ping},
        settings.order_api_key,
    )
    app.include_router(routes.router)
    return app
