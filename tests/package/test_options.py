"""What an application may choose, in the call or by a variable; and that tracing begins once and ends whole."""

import logging
from typing import Any

import aio_pika
import aio_pika.queue
import pytest
from aio_pika import Exchange, Message, Queue
from aio_pika.abc import AbstractMessage, AbstractRobustConnection
from aio_pika.queue import QueueIterator
from opentelemetry import propagate
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span

from shared.telemetry import AioPikaTracing, LinkedSampler, __version__
from tests.package.conftest import Instrument, Traced, acknowledge, attributes, links, span_id, trace_id

SEND, PROCESS = "send jobs", "process jobs"
OLD = {"messaging.system", "messaging.rabbitmq.destination.routing_key", "messaging.rabbitmq.message.delivery_tag"}
NEW = {"messaging.system.name", "rabbitmq.destination.routing_key", "rabbitmq.message.delivery_tag"}


@pytest.mark.parametrize(
    ("relation", "is_child", "is_linked"), [("both", True, True), ("child", True, False), ("link", False, True)]
)
@pytest.mark.parametrize("by_variable", [True, False])
async def test_a_process_span_is_related_to_its_send_as_asked(
    instrument: Instrument,
    connection: AbstractRobustConnection,
    monkeypatch: pytest.MonkeyPatch,
    relation: str,
    is_child: bool,
    is_linked: bool,
    by_variable: bool,
) -> None:
    if by_variable:
        monkeypatch.setenv("OTEL_PYTHON_AIO_PIKA_RELATION", relation)
    traced = instrument() if by_variable else instrument(relation=relation)

    send, process = await _one_message(traced, connection)

    assert (process.parent is not None) is is_child
    assert (trace_id(process) == trace_id(send)) is is_child
    assert links(process) == ({"creation_context": span_id(send)} if is_linked else {})


async def test_a_linked_root_is_sampled_where_its_send_is(
    instrument: Instrument, connection: AbstractRobustConnection
) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

    traced = instrument(LinkedSampler(ParentBased(ALWAYS_OFF, local_parent_sampled=ALWAYS_ON)), relation="link")
    channel = await connection.channel()
    queue = await channel.declare_queue("jobs")
    await queue.consume(acknowledge)
    headers: dict[str, Any] = {"traceparent": "00-11111111111111111111111111111111-2222222222222222-01"}
    underlay = await channel.get_underlay_channel()

    await underlay.basic_publish(b"", routing_key="jobs", properties=Message(b"", headers=headers).properties)

    assert links(await traced.the(PROCESS)) == {"creation_context": 0x2222222222222222}


def publish_hook(span: Span, message: AbstractMessage) -> None:
    span.set_attribute("body", len(message.body))


def consume_hook(span: Span, message: AbstractMessage) -> None:
    span.set_attribute("body", len(message.body))
    raise ValueError("a hook that fails")


@pytest.mark.parametrize("by_variable", [True, False])
async def test_hooks_see_the_span_and_the_message_and_cost_no_message(
    instrument: Instrument,
    connection: AbstractRobustConnection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    by_variable: bool,
) -> None:
    if by_variable:
        monkeypatch.setenv("OTEL_PYTHON_AIO_PIKA_PUBLISH_HOOK", f"{__name__}:publish_hook")
        monkeypatch.setenv("OTEL_PYTHON_AIO_PIKA_CONSUME_HOOK", f"{__name__}:consume_hook")
    traced = instrument() if by_variable else instrument(publish_hook=publish_hook, consume_hook=consume_hook)

    send, process = await _one_message(traced, connection)

    assert attributes(send)["body"] == attributes(process)["body"] == 4
    assert "a hook of the messaging spans failed" in caplog.text


async def test_settle_spans_are_made_where_asked_for(
    instrument: Instrument, connection: AbstractRobustConnection
) -> None:
    traced = instrument(settle_spans=True)

    send, process = await _one_message(traced, connection)

    settle = await traced.the("ack jobs")
    assert settle.kind.name == "CLIENT"
    assert settle.parent is not None
    assert settle.parent.span_id == span_id(process)
    assert links(settle) == {"creation_context": span_id(send)}
    assert attributes(settle)["messaging.operation.type"] == "settle"


@pytest.mark.parametrize(
    ("opt_in", "has", "has_not"),
    [("", OLD, NEW), ("http", OLD, NEW), ("http,messaging", NEW, OLD), ("messaging/dup", OLD | NEW, set())],
)
async def test_the_standard_switch_picks_the_names(
    instrument: Instrument,
    connection: AbstractRobustConnection,
    monkeypatch: pytest.MonkeyPatch,
    opt_in: str,
    has: set[str],
    has_not: set[str],
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opt_in)
    traced = instrument()

    _, process = await _one_message(traced, connection)

    assert has <= attributes(process).keys()
    assert not has_not & attributes(process).keys()
    (point,) = traced.points("messaging.process.duration")
    assert {name for name in point if "system" in name} == {name for name in has if "system" in name}
    scope = process.instrumentation_scope
    assert scope is not None
    assert scope.version == __version__
    assert scope.schema_url == f"https://opentelemetry.io/schemas/1.{45 if has & NEW else 44}.0"


async def test_a_second_call_says_so_and_changes_nothing(
    instrument: Instrument, connection: AbstractRobustConnection, caplog: pytest.LogCaptureFixture
) -> None:
    traced, wrapped = instrument(), Exchange.publish

    AioPikaTracing().instrument(relation="link")

    assert "traced already in this process" in caplog.text
    assert Exchange.publish is wrapped
    send, process = await _one_message(traced, connection)
    assert trace_id(send) == trace_id(process)


@pytest.mark.parametrize("first", ["official", "ours"])
async def test_the_official_instrumentation_may_have_begun_before_and_may_begin_after(
    instrument: Instrument, connection: AbstractRobustConnection, first: str
) -> None:
    if first == "official":
        AioPikaInstrumentor().instrument()
    traced = instrument()
    if first == "ours":
        AioPikaInstrumentor().instrument()

    send, process = await _one_message(traced, connection)

    assert links(process) == {"creation_context": span_id(send)}
    assert len(traced.spans) == 2


def test_the_end_puts_everything_back(instrument: Instrument, caplog: pytest.LogCaptureFixture) -> None:
    before, propagator = _patched(), propagate.get_global_textmap()

    instrument()
    assert all(mine is not theirs for mine, theirs in zip(_patched(), before, strict=True))
    AioPikaTracing().uninstrument()

    assert _patched() == before
    assert propagate.get_global_textmap() is propagator
    assert not AioPikaInstrumentor().is_instrumented_by_opentelemetry
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_relation_that_is_none_is_refused(instrument: Instrument) -> None:
    with pytest.raises(ValueError, match="sideways"):
        instrument(relation="sideways")

    assert not AioPikaTracing().is_instrumented_by_opentelemetry


def test_an_argument_that_is_none_is_refused(instrument: Instrument) -> None:
    with pytest.raises(TypeError, match="'relatoin'"):
        instrument(relatoin="link")

    assert not AioPikaTracing().is_instrumented_by_opentelemetry


@pytest.mark.parametrize(
    ("variable", "value", "instead"),
    [
        ("RELATION", "bogus", "both is used"),
        ("SETTLE_SPANS", "1", "False is used"),
        ("SETTLE_SPANS", "yes", "False is used"),
        ("DESTINATION_TEMPLATE", "nowhere.to:be_found", "None is used"),
        ("PUBLISH_HOOK", "builtins:no_such_hook", "None is used"),
        ("CONSUME_HOOK", "not a name", "None is used"),
    ],
)
async def test_a_variable_that_cannot_be_read_is_said_and_its_default_is_used(
    instrument: Instrument,
    connection: AbstractRobustConnection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str,
    instead: str,
) -> None:
    monkeypatch.setenv(f"OTEL_PYTHON_AIO_PIKA_{variable}", value)
    traced = instrument()

    (said,) = [record.getMessage() for record in caplog.records if "aio_pika" in record.getMessage().lower()]
    assert f"OTEL_PYTHON_AIO_PIKA_{variable}={value}" in said
    assert instead in said
    send, process = await _one_message(traced, connection)
    assert links(process) == {"creation_context": span_id(send)}
    assert len(traced.spans) == 2


@pytest.mark.parametrize(("value", "asks"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
async def test_settle_spans_are_asked_for_as_everywhere(
    instrument: Instrument,
    connection: AbstractRobustConnection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    value: str,
    asks: bool,
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_AIO_PIKA_SETTLE_SPANS", value)
    traced = instrument()

    await _one_message(traced, connection)

    assert bool(traced.named("ack jobs")) is asks
    assert not caplog.records


async def _one_message(traced: Traced, connection: AbstractRobustConnection) -> tuple[ReadableSpan, ReadableSpan]:
    channel = await connection.channel()
    queue = await channel.declare_queue("jobs")
    await queue.consume(acknowledge)
    await channel.default_exchange.publish(Message(b"body"), "jobs")
    return await traced.the(SEND), await traced.the(PROCESS)


def _patched() -> list[Any]:
    return [Queue.consume, Queue.get, Queue.__aiter__, Exchange.publish, Exchange.declare, QueueIterator.__anext__,
            QueueIterator.__aexit__, vars(aio_pika.queue)["IncomingMessage"], aio_pika.patterns.RPC.call]  # fmt: skip
