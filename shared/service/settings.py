"""Setting types that both services use."""

from pathlib import Path
from typing import Annotated

from dotenv import load_dotenv
from pydantic import AfterValidator, Field
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from yarl import URL


def _check_amqp_urls(value: str) -> str:
    urls = [part.strip() for part in value.split(",") if part.strip()]
    if not urls:
        raise ValueError("names no broker")
    for url in urls:
        if URL(url).scheme not in {"amqp", "amqps"} or not URL(url).host:
            raise ValueError("must be amqp://user:password@host:port/vhost, several separated by commas")
    return ",".join(urls)


def _check_database_url(value: str) -> str:
    try:
        backend = make_url(value).get_backend_name()
    except ArgumentError:
        backend = "this"
    if backend not in {"sqlite", "postgresql"}:
        raise ValueError(f"{backend} is not supported: sqlite:///path/to/file or postgresql://user:password@host/name")
    return value


AmqpUrls = Annotated[str, AfterValidator(_check_amqp_urls)]
"""One AMQP URL, or several of one cluster, separated by commas."""

DatabaseUrl = Annotated[str, AfterValidator(_check_database_url)]
"""A database of this service's own."""

MessageBytes = Annotated[int, Field(ge=64 * 1024, le=16 * 1024 * 1024)]
"""The largest body of a message that is read; brokers that are set up here take none beyond 16 MiB."""

Port = Annotated[int, Field(ge=0, le=65535)]

RetentionDays = Annotated[float, Field(gt=0, le=36_500)]
"""Days after its decision for which an order is remembered; one that is undecided is never removed."""


def load_environment(path: Path = Path(".env")) -> None:
    """Read `.env` into the environment, where OpenTelemetry finds its variables too; what is set already wins."""
    load_dotenv(path)
