"""Every OTEL_* variable that the SDK names: honoured, or named once in a warning; never the end of a start."""

import re
from collections.abc import Iterator

import opentelemetry.environment_variables as of_the_api
import opentelemetry.instrumentation.environment_variables as of_the_instrumentation
import opentelemetry.sdk.environment_variables as of_the_sdk
import pytest
from opentelemetry.sdk._logs import LogRecordLimits
from opentelemetry.sdk.trace import SpanLimits

from shared.service.otel_kinds import ANY, MOST
from shared.service.otel_variables import VARIABLES, put_right

NAMED = sorted(
    {
        value
        for module in (of_the_api, of_the_sdk, of_the_instrumentation)
        for name, value in vars(module).items()
        if isinstance(value, str) and name.lstrip("_").startswith("OTEL_")
    }
)
NONSENSE = "\N{PILE OF POO} -1"
VALUES = {
    "true or false": ("true", "FALSE"),
    "parts are not": ("a=b", "a=b,c=d%20e"),
    "not installed": (),
    "the address": ("http://localhost:4318", "https://[::1]/prefix"),
    "a number from 0 to 1": ("0", "1", "0.25"),
    "no file": (__file__,),
    "no effect": (),
}
BY_NAME = {
    "OTEL_PROPAGATORS": ("none", "tracecontext,baggage", "baggage"),
    "OTEL_PYTHON_CONTEXT": ("contextvars_context",),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": ("*", "process,host"),
}


def _valid_values(name: str) -> Iterator[str]:
    """Give values of a variable that are valid, each at a boundary where there is one."""
    takes = VARIABLES[name].takes
    if name in BY_NAME:
        yield from BY_NAME[name]
    elif bounds := re.search(r"from (\d+) to (\d+)$", takes):
        yield from bounds.groups()
    elif (wrong := next((found for found in VALUES if found in _wrong(name)), None)) is not None:
        yield from VALUES[wrong]
    elif VARIABLES[name] is not ANY:
        for value in takes.partition(";")[0].split(" or "):
            yield value
            yield value.upper()


def _wrong(name: str) -> str:
    return VARIABLES[name].read(NONSENSE).wrong


def test_the_table_names_every_variable_that_the_sdk_names() -> None:
    assert [name for name in NAMED if name not in VARIABLES] == []


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_nonsense_is_named_once_and_taken_out(name: str) -> None:
    environ = {name: NONSENSE}

    said = put_right(environ)

    if VARIABLES[name] is ANY:
        assert (said, environ) == ([], {name: NONSENSE})
    else:
        (sentence,) = said
        assert sentence.startswith(f"{name}: ")
        assert environ == {}


@pytest.mark.parametrize("value", ["", "  "])
@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_empty_is_unset(name: str, value: str) -> None:
    environ = {name: value}

    assert put_right(environ) == []
    assert environ == {}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in sorted(VARIABLES) for value in _valid_values(name)]
)
def test_what_is_valid_is_kept_at_its_boundaries_too(name: str, value: str) -> None:
    environ = {name.replace("EXPORT_BATCH", "QUEUE"): str(MOST), name: f" {value} "}

    said = put_right(environ)

    assert environ[name].lower() == value.lower()
    assert said == []


@pytest.mark.parametrize(
    ("name", "below", "beyond"),
    [
        (name, str(int(bounds[1]) - 1), str(int(bounds[2]) + 1))
        for name in sorted(VARIABLES)
        if (bounds := re.search(r"from (\d+) to (\d+)$", VARIABLES[name].takes))
    ],
)
def test_what_is_out_of_bounds_is_named_and_taken_out(name: str, below: str, beyond: str) -> None:
    for value in (below, beyond, f"{below}.5", "1e3", "٣"):
        environ = {name: value}

        assert len(put_right(environ)) == 1
        assert environ == {}


def test_of_a_list_what_is_good_is_kept() -> None:
    environ = {
        "OTEL_PROPAGATORS": "tracecontext,b3,BAGGAGE,xray",
        "OTEL_RESOURCE_ATTRIBUTES": "team=orders,nonsense,=x,city=K%C3%B6ln",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer secret,bad name=x,x-a=line%0Abreak",
    }

    said = put_right(environ)

    assert environ == {
        "OTEL_PROPAGATORS": "tracecontext,baggage",
        "OTEL_RESOURCE_ATTRIBUTES": "team=orders,city=K%C3%B6ln",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer secret",
    }
    assert len(said) == 3
    assert not any("secret" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("environ", "batch", "is_said"),
    [
        ({"QUEUE_SIZE": "100"}, "100", False),
        ({"QUEUE_SIZE": "100", "EXPORT_BATCH_SIZE": "200"}, "100", True),
        ({"QUEUE_SIZE": "100", "EXPORT_BATCH_SIZE": "100"}, "100", False),
        ({"EXPORT_BATCH_SIZE": "40000"}, "32768", True),
        ({}, None, False),
    ],
)
def test_no_batch_is_larger_than_its_queue(environ: dict[str, str], batch: str | None, is_said: bool) -> None:
    named = {f"OTEL_BSP_MAX_{name}": value for name, value in environ.items()}

    said = put_right(named)

    assert named.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") == batch
    assert bool(said) is is_said


def test_limits_reach_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [name for name in VARIABLES if name.endswith("_LIMIT")]
    for value in ("0", str(MOST), "x", ""):
        environ = dict.fromkeys(limits, value)
        put_right(environ)
        for name in limits:
            monkeypatch.delenv(name, raising=False)
        for name, kept in environ.items():
            monkeypatch.setenv(name, kept)

        spans, records = SpanLimits(), LogRecordLimits()

        expected = int(value) if value.isdecimal() else 128
        assert (spans.max_links, spans.max_span_attributes, records.max_attributes) == (expected,) * 3
