"""The nodes that AMQP_URL names: each is tried in turn, as the services do."""

from collections.abc import Sequence

import aio_pika
from aio_pika.abc import AbstractConnection
from yarl import URL

from shared.contract.errors import BrokerUnavailable
from shared.rabbit.decoding import tolerate_undecodable
from shared.rabbit.losses import losses_as_errors
from shared.rabbit.refusals import address, why_not

CONNECT_SECONDS = 5.0
"""Longest wait for one node."""


class NoNode(Exception):
    """No node can be talked to; the message is a clause that says why, without the password in the URL."""

    def __init__(self, clause: str, tried: str = "") -> None:
        super().__init__(clause)
        self.tried = tried
        """Every node's address and why not there."""


def nodes(amqp_url: str) -> Sequence[URL]:
    """Read one URL, or several of one cluster with commas between them; raises NoNode."""
    try:
        urls = [URL(part.strip()) for part in amqp_url.split(",") if part.strip()]
    except ValueError:
        urls = []
    if not urls or any(url.scheme not in {"amqp", "amqps"} or not url.host for url in urls):
        raise NoNode("AMQP_URL is not an address")
    return urls


async def connect(amqp_url: str) -> tuple[AbstractConnection, str]:
    """Connect to the first node that lets us in, and say which it is; raises NoNode with every node's reason."""
    # Else one message that is beyond decoding would end the connection of whoever looks at it.
    tolerate_undecodable()
    refused = []
    for url in nodes(amqp_url):
        try:
            with losses_as_errors():
                return await aio_pika.connect(url, timeout=CONNECT_SECONDS), address(url)
        except BrokerUnavailable as error:
            refused.append(f"{address(url)} ({why_not(error, url)})")
    tried = ", ".join(refused)
    raise NoNode(f"there is no connection to RabbitMQ at {tried}", tried)
