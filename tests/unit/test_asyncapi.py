"""The AsyncAPI document and the JSON Schemas say what the messages are, to the letter and in every queue."""

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from aio_pika import Message

from shared.contract import envelope, topology
from shared.contract.envelope import Death
from tests.asyncapi import DOCS, MESSAGES, generated

GENERATED = generated()
DOCUMENT = yaml.safe_load(GENERATED["asyncapi.yaml"])


@pytest.mark.parametrize("path", GENERATED)
def test_what_is_generated_is_what_is_there(path: str) -> None:
    assert (DOCS / path).read_text() == GENERATED[path], "write it anew: make docs"


def test_no_schema_is_left_over() -> None:
    assert {str(path.relative_to(DOCS)) for path in (DOCS / "schemas").iterdir()} == GENERATED.keys() - {
        "asyncapi.yaml"
    }


def test_every_queue_has_a_channel() -> None:
    names = [queue.name for queue in (*topology.QUEUES, *topology.retry_queues(topology.RETRY_DELAYS))]
    names.append(topology.reply_queue("host-1"))

    addresses = [re.sub(r"\{\w+\}", "*", channel["address"]) for channel in DOCUMENT["channels"].values()]

    assert [name for name in names if not any(Path(name).match(address) for address in addresses)] == []


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("check", envelope.message(b"", type="", correlation_id="A")),
        ("retried", envelope.message(b"", type="", correlation_id="A", failures=1)),
        ("dead", envelope.message(b"", type="", correlation_id="A", death=Death("malformed", "", "queue", 1))),
        ("decision", envelope.message(b"", type="", correlation_id="A", asked_at=1.0)),
        ("delay", envelope.message(b"", type="", correlation_id="A", asked_at=1.0)),
    ],
)
def test_every_header_that_is_written_is_documented(name: str, written: Message) -> None:
    documented = DOCUMENT["components"]["messages"][name]["headers"]["properties"]

    assert set(written.headers) | {"traceparent"} == set(documented)


def test_every_message_that_the_contract_has_is_documented() -> None:
    types = {message["name"] for message in DOCUMENT["components"]["messages"].values()}

    assert types == {model.TYPE for model in MESSAGES.values()}
