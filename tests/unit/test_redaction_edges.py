"""Redaction where it is easily missed: in escapes, and what libraries log."""

import io
import json
import logging

import pytest

from shared.service import logs
from shared.telemetry.redaction import MASK, redact_text


@pytest.fixture
def stream() -> io.StringIO:
    written = io.StringIO()
    logs.configure("order-api", "DEBUG", written)
    return written


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
