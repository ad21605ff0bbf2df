"""Every setting of ours: a value at its boundary is honoured, empty is unset, and nonsense is one sentence that names it."""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from inventory_worker.settings import Settings as WorkerSettings
from order_api.settings import Settings as ApiSettings
from shared.service import logs
from shared.service.telemetry_settings import TelemetrySettings
from shared.service.wrong_settings import sentences

NAMES = [
    (kind, name.upper()) for kind in (ApiSettings, WorkerSettings, TelemetrySettings) for name in kind.model_fields
]
FREE = {"ORDER_API_HOST", "INVENTORY_WORKER_HOST", "OPENOBSERVE_USER", "OPENOBSERVE_PASSWORD", "DEPLOYMENT_ENVIRONMENT"}
FREE |= {"OPENOBSERVE_PASSWORD_FILE", "REDACT_NAMES", "REDACT_PATTERN"}
"""What takes any text."""
NONSENSE = "no \N{PILE OF POO} sense\n"
PORTS = (("0", 0), ("65535", 65535), ("tcp://10.96.0.12:8000", 8000), ("tcp://[fd00::1]:9000", 9000))
KEYS = (("s3cret", "s3cret"), ("schlüssel \N{PILE OF POO}!", "schlüssel \N{PILE OF POO}!"))
DAYS = (("0.001", 0.001), ("36500", 36_500.0))
VALID: Mapping[str, tuple[tuple[str, Any], ...]] = {
    "AMQP_URL": (
        ("amqp://a:b@host", "amqp://a:b@host"),
        (
            " amqps://h:5671/vhost?heartbeat=65535 , amqp://i?heartbeat=0",
            "amqps://h:5671/vhost?heartbeat=65535,amqp://i?heartbeat=0",
        ),
        (f"amqps://h?cafile={__file__}", f"amqps://h?cafile={__file__}"),
    ),
    "DATABASE_URL": (
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        (
            "postgresql://h/d?sslmode=verify-full&connect_timeout=0",
            "postgresql://h/d?connect_timeout=0&sslmode=verify-full",
        ),
        (f"postgresql://h/d?sslrootcert={__file__}&keepalives=1", None),
        ("postgresql://h/d?sslrootcert=system&options=-c%20a%3Db&channel_binding=prefer", None),
    ),
    "ORDER_API_PORT": PORTS,
    "INVENTORY_WORKER_PORT": PORTS,
    "REPLY_TIMEOUT": (("0.001", 0.001), ("300", 300.0)),
    "DEFAULT_SKU": (("gadget", "gadget"),),
    "ORDER_API_KEY": KEYS,
    "RETENTION_DAYS": DAYS,
    "MAX_MESSAGE_BYTES": (("65536", 65536), ("16777216", 16777216)),
    "LOG_LEVEL": (("debug", "DEBUG"), ("Info", "INFO"), ("10", "10"), ("warn", "WARNING"), ("0", "0"), ("50", "50")),
    "INITIAL_STOCK": (("{}", {}), ('{"a": 0, "b": 1000000000000}', {"a": 0, "b": 1_000_000_000_000})),
    "RETRY_DELAYS": (("0.1", (0.1,)), ("604800, 1", (604800.0, 1.0)), (",".join(["1"] * 50), (1.0,) * 50)),
    "REPLY_QUEUE_PREFIXES": (("a, b", ("a", "b")), ("x" * 255, ("x" * 255,))),
    "OPENOBSERVE_URL": (("http://host:5080/base/", "http://host:5080/base/"), ("https://[::1]:1", "https://[::1]:1")),
    "OPENOBSERVE_PUBLIC_URL": (("http://host", "http://host"),),
    "OPENOBSERVE_ORG": (("a_b-c.D9", "a_b-c.D9"), ("o" * 256, "o" * 256)),
    "RABBITMQ_MANAGEMENT_URL": (("http://host:15672", "http://host:15672"),),
    "SPAN_ENCODER": (("direct", "direct"), ("official", "official")),
    "TRUST_CALLERS_SAMPLING": (("true", True), ("false", False), ("0", False)),
    "TELEMETRY_BUFFER_MB": (("0.001", 0.001),),
}
WRONG: Mapping[str, tuple[str, ...]] = {
    "AMQP_URL": (
        *(
            "http://host",
            "amqp://",
            ",",
            "amqp://h:eighty",
            "amqp://h:0",
            "amqp://h?heartbeat=abc",
            "amqp://h?heartbeat=65536",
        ),
        "amqps://h?cafile=/nowhere.pem",
    ),
    "DATABASE_URL": (
        *("mysql://x", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=ro", "postgresql://h:port/d", "postgresql"),
        *("postgresql://h/d?sslmode=maybe", "postgresql://h/d?sslrootcert=/nowhere", "postgresql://h/d?nonsense=1"),
        *("postgresql://h/d?connect_timeout=soon", "postgresql://h/d?channel_binding=require"),
    ),
    "ORDER_API_PORT": ("-1", "65536", "8000.5", "http://h:8000", "tcp://10.96.0.12:99999", "tcp://10.96.0.12"),
    "INVENTORY_WORKER_PORT": ("-1", "65536", "tcp://h:"),
    "REPLY_TIMEOUT": ("0", "-1", "300.1", "nan", "inf"),
    "ORDER_API_KEY": (" key", "ke\ny", "\udcff"),
    "RETENTION_DAYS": ("0", "36500.1", "nan"),
    "MAX_MESSAGE_BYTES": ("65535", "16777217"),
    "LOG_LEVEL": ("verbose", "51", "-1"),
    "INITIAL_STOCK": ("abc", "widget=5", "[]", "5", '{"widget": -1}', '{"widget": 1.5}', '{"": 1}', "[" * 100_000),
    "RETRY_DELAYS": ("0.05", "604801", "1,,2", ",".join(["1"] * 51), "nan"),
    "REPLY_QUEUE_PREFIXES": ("a,,b", "x" * 256),
    "OPENOBSERVE_URL": (
        "nonsense",
        "ftp://h",
        "http://",
        "http://h:0",
        "http://h:port",
        "http://h/?a=b",
        "http://user@h",
    ),
    "OPENOBSERVE_PUBLIC_URL": ("nonsense", "http://me:secret@host"),
    "OPENOBSERVE_ORG": ("a/b", "a b", "o" * 257),
    "RABBITMQ_MANAGEMENT_URL": ("nonsense", "amqp://host:15672"),
    "SPAN_ENCODER": ("none",),
    "REDACT_PATTERN": ("(", "[a"),
    "TRUST_CALLERS_SAMPLING": ("maybe", "2"),
    "TELEMETRY_BUFFER_MB": ("0", "inf", "-1"),
}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for _, name in NAMES:
        monkeypatch.delenv(name, raising=False)


def _sentences(kind: type[BaseSettings]) -> list[str]:
    try:
        kind()
    except ValidationError as error:
        return list(sentences(error))
    return []


def test_every_setting_has_its_values_here() -> None:
    assert {name for _, name in NAMES} - VALID.keys() - FREE == set()


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"), [(*found, *case) for found in NAMES for case in VALID.get(found[1], ())]
)
def test_a_valid_value_is_honoured_at_its_boundary_too(
    kind: type[BaseSettings], name: str, value: str, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    found = getattr(kind(), name.lower())

    shown = found.get_secret_value() if hasattr(found, "get_secret_value") else found
    assert expected is None or shown == expected


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_empty_is_unset(kind: type[BaseSettings], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")

    assert getattr(kind(), name.lower()) == kind.model_fields[name.lower()].default


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (*found, value)
        for found in NAMES
        for value in (*WRONG.get(found[1], ()), *(() if found[1] in FREE else (NONSENSE,)))
    ],
)
def test_nonsense_is_one_sentence_that_names_the_setting(
    kind: type[BaseSettings], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    (sentence,) = _sentences(kind)

    assert sentence.startswith(f"{name}: ")
    assert "\n" not in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize(
    ("given", "missing"), [("OPENOBSERVE_USER", "OPENOBSERVE_PASSWORD"), ("OPENOBSERVE_PASSWORD", "OPENOBSERVE_USER")]
)
def test_half_a_login_is_one_sentence_that_names_the_other_half(
    given: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(given, "x")

    (sentence,) = _sentences(TelemetrySettings)

    assert sentence.startswith(f"{missing}: ")


def test_a_pattern_that_is_none_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDACT_PATTERN", "(")

    (sentence,) = _sentences(TelemetrySettings)

    assert sentence.startswith("REDACT_PATTERN: ")


def test_a_login_within_the_address_is_one_and_is_shown_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENOBSERVE_URL", "http://root%40example.com:p%2Fss@observe:5080/base")

    settings = TelemetrySettings()

    assert settings.openobserve_url == "http://observe:5080/base"
    assert settings.openobserve_headers == {"Authorization": "Basic cm9vdEBleGFtcGxlLmNvbTpwL3Nz"}
    assert "observe:5080/base/web/traces" in (settings.trace_url("a" * 32, 1, 2) or "")
    assert "@" not in (settings.trace_url("a" * 32, 1, 2) or "")


@pytest.mark.parametrize("level", ["0", "DEBUG", "15", "50"])
def test_every_level_can_be_logged_at(level: str) -> None:
    logs.configure("order-api", level)

    assert logging.getLogger().level == (int(level) if level.isdecimal() else logging.DEBUG)


def _run(module: str, directory: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module],
        env={"PYTHONPATH": os.getcwd(), **environment},  # noqa: PTH109
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("module", ["order_api", "inventory_worker"])
def test_wrong_settings_of_every_kind_end_a_start_with_a_sentence_each(module: str, tmp_path: Path) -> None:
    kind = ApiSettings if module == "order_api" else WorkerSettings
    wrong = {name: NONSENSE for _, name in NAMES if name not in FREE}

    done = _run(module, tmp_path, **wrong)

    fields = (*kind.model_fields, *TelemetrySettings.model_fields)
    expected = [name.upper() for name in fields if name.upper() not in FREE]
    assert done.returncode == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == expected


@pytest.mark.parametrize("module", ["order_api", "inventory_worker", "shared.tools.entry"])
def test_an_env_file_that_is_not_utf_8_ends_a_start_with_one_sentence(module: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("ORDER_API_KEY=schlüssel".encode("latin-1"))

    done = _run(module, tmp_path)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert ".env cannot be read: it is not UTF-8" in line


@pytest.mark.parametrize("file", ["/proc/x/orders.db", "/dev/null/x.db", "/proc/orders.db", "/"])
def test_a_database_that_cannot_be_made_ends_a_start_with_one_sentence(file: str, tmp_path: Path) -> None:
    done = _run("order_api", tmp_path, DATABASE_URL=f"sqlite:///{file}", ORDER_API_PORT="0")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "critical" in line]
    assert f"DATABASE_URL: {file} cannot be written to" in line
