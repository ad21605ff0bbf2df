"""Setting types that both services use."""

import logging
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.engine import url as database
from sqlalchemy.exc import ArgumentError
from yarl import URL

from shared.service.takes import Takes
from shared.storage.libpq import address_of

_AMQP = "must be amqp://user:password@host:port/vhost, several separated by commas"
_DATABASE = "sqlite:///path/to/file or postgresql://user:password@host/name"


def _check_amqp_urls(value: str) -> str:
    urls = [part.strip() for part in value.split(",") if part.strip()]
    if not urls:
        raise ValueError("names no broker")
    for url in urls:
        _check_amqp_url(url)
    return ",".join(urls)


def _check_amqp_url(text: str) -> None:
    try:
        url = URL(text)
        is_address = url.scheme in {"amqp", "amqps"} and bool(url.host) and url.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError(_AMQP)
    heartbeat = url.query.get("heartbeat", "0")
    if not (heartbeat.isdecimal() and int(heartbeat) < 2**16):
        raise ValueError("heartbeat must be a number of seconds from 0 to 65535")
    for name in ("cafile", "certfile", "keyfile"):
        if name in url.query and not Path(url.query[name]).is_file():
            raise ValueError(f"{name} names no file: {url.query[name]}")


def _check_database_url(value: str) -> str:
    try:
        url = make_url(re.sub("^postgres:", "postgresql:", value))
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise ValueError(f"must be {_DATABASE}") from None
    if backend == "sqlite":
        _check_sqlite_url(url)
    elif backend == "postgresql":
        address_of(url)
    else:
        raise ValueError(f"{backend} is not supported: {_DATABASE}")
    return url.render_as_string(hide_password=False)


def _check_sqlite_url(url: database.URL) -> None:
    if not url.database or url.database == ":memory:":
        raise ValueError("names no file: sqlite:///path/to/file")
    if url.query or url.host:
        raise ValueError("of SQLite there is a path and nothing else: sqlite:///path/to/file")


def _port_of(value: Any) -> Any:
    """Take the port off the end of what Kubernetes injects for a Service whose name makes it the name of our setting."""
    injected = re.fullmatch(r"(?:tcp|udp|sctp)://\S+:([0-9]{1,5})", value) if isinstance(value, str) else None
    return injected[1] if injected else value


def _check_level(value: str) -> str:
    name = {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(value.strip().upper(), value.strip().upper())
    if name in logging.getLevelNamesMapping() or (name.isdecimal() and int(name) <= logging.CRITICAL):
        return name
    raise ValueError("must be DEBUG, INFO, WARNING, ERROR, CRITICAL, or a number from 0 to 50")


def _check_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not key.isprintable() or key != key.strip():
        raise ValueError(
            "must be of printable characters, and not begin or end with a space: no header can carry it else"
        )
    return value


AmqpUrls = Annotated[
    str,
    AfterValidator(_check_amqp_urls),
    Takes("`amqp://` or `amqps://user:password@host:port/vhost`, several of one cluster separated by commas"),
]
"""One AMQP URL, or several of one cluster, separated by commas."""

DatabaseUrl = Annotated[
    str,
    AfterValidator(_check_database_url),
    Takes("`sqlite:///path/to/file` or `postgresql://user:password@host/name`"),
]
"""A database of this service's own; of PostgreSQL with the parameters of libpq."""

MessageBytes = Annotated[int, Field(ge=64 * 1024, le=16 * 1024 * 1024)]
"""The largest body of a message that is read; brokers that are set up here take none beyond 16 MiB."""

Port = Annotated[
    int,
    BeforeValidator(_port_of),
    Field(ge=0, le=65535),
    Takes("a port from 0 (any that is free) to 65535, or an address that ends with one, as `tcp://10.96.0.12:8000`"),
]
"""A port, or an address that ends with one as Kubernetes injects it: `tcp://10.96.0.12:8000`."""

LogLevel = Annotated[
    str,
    AfterValidator(_check_level),
    Takes("DEBUG, INFO, WARNING, ERROR or CRITICAL in whatever case, or a number from 0 to 50"),
]
"""The name of a level in whatever case, or its number."""

ApiKey = Annotated[SecretStr, AfterValidator(_check_key), Takes("printable characters, no space at either end")]
"""A key that a header can carry, as UTF-8."""

RetentionDays = Annotated[float, Field(gt=0, le=36_500)]
"""Days after its decision for which an order is remembered; one that is undecided is never removed."""
