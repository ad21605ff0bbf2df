"""Redaction where it is easily missed: in names, query strings, escapes, and what libraries log."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.service import logs
from shared.telemetry.redaction import MASK, RedactionProcessor, redact_text


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    try:
        logs.configure("order-api", "DEBUG", written)
        yield written
    finally:
        root.handlers[:], root.level = handlers, level


def _exported(name: str, **attributes: str) -> tuple[str, dict[str, object]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RedactionProcessor(SimpleSpanProcessor(exporter), kept_in_queries={"order_id"}))
    provider.get_tracer("test").start_span(name, attributes={"url.query": attributes.get("query", "")}).end()
    (found,) = exporter.get_finished_spans()
    return found.name, dict(found.attributes or {})


def test_an_address_in_a_span_name_is_masked() -> None:
    assert _exported("send ada@example.com")[0] == f"send {MASK}"


def test_of_a_query_only_the_order_id_stays() -> None:
    _, attributes = _exported("step", query="order_id=O-1&customer=c-17&to=ada%40example.com&flag")

    assert attributes["url.query"] == f"order_id=O-1&customer={MASK}&to={MASK}&flag"


def test_an_order_id_that_is_an_address_does_not_stay() -> None:
    assert _exported("step", query="order_id=ada%40example.com")[1]["url.query"] == f"order_id={MASK}"


@pytest.mark.parametrize("address", ["o'brien@example.com", "a!b#c@example.com", "j\u00fcrgen@b\u00fccher.example"])
def test_unusual_addresses_are_masked_whole(address: str) -> None:
    assert redact_text(f"to {address} now") == f"to {MASK} now"


@pytest.mark.parametrize("text", ["first\nada@example.com", "tab\tada@example.com", "j\u00fcrgen@b\u00fccher.example"])
def test_an_address_beside_an_escape_is_masked_and_the_line_stays_json(stream: io.StringIO, text: str) -> None:
    logging.getLogger("test").warning(text)

    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"].endswith(MASK)


def test_statements_and_frames_are_not_logged_even_when_all_else_is(stream: io.StringIO) -> None:
    for library in ("aiosqlite", "sqlalchemy.engine", "asyncpg", "aiormq.connection", "aio_pika"):
        logging.getLogger(library).debug("customer-4711")
        logging.getLogger(library).info("customer-4711")

    assert stream.getvalue() == ""
