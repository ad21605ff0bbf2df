"""Passwords in files, as Docker's secrets are: read at the start, but the one for sending telemetry whenever it is needed."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.service.environment import prepare
from shared.service.telemetry_environment import sender
from shared.service.telemetry_settings import TelemetrySettings
from tests.faults.scripted_backend import ScriptedBackend
from tests.waiting import eventually


@pytest.mark.parametrize("name", ["AMQP_URL", "DATABASE_URL", "ORDER_API_KEY", "ALERT_WEBHOOK_URL"])
def test_a_value_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    named = {f"{name}_FILE": str(tmp_path / "secret")}

    with patch.dict(os.environ, named, clear=True):
        prepare("orders", tmp_path / "none")
        assert os.environ[name] == "from the file"
    with patch.dict(os.environ, {**named, name: "set"}, clear=True):
        prepare("orders", tmp_path / "none")
        assert os.environ[name] == "set", "what is set wins"


def test_a_file_that_is_not_there_is_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = {"AMQP_URL_FILE": str(tmp_path / "none")}

    with patch.dict(os.environ, named, clear=True), pytest.raises(SystemExit) as end:
        prepare("order-api", tmp_path / "none")

    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("order-api: AMQP_URL_FILE: ")


def test_the_password_of_telemetry_may_come_up_later_and_what_waits_for_it_is_sent(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with ScriptedBackend() as backend:
        settings = TelemetrySettings.model_validate(
            {
                "openobserve_url": backend.endpoint.removesuffix("/v1/traces"),
                "openobserve_user": "u",
                "openobserve_password_file": token,
            }
        )
        sending = sender("traces", settings, {})
        try:
            sending.put(ExportTraceServiceRequest().SerializeToString(), 1)
            assert settings.openobserve_headers == {}
            token.write_text("o2oi_token\n")

            eventually(lambda: backend.received, what="the span that waited")
        finally:
            sending.end()

    assert backend.received[0]["Authorization"] == settings.openobserve_headers["Authorization"]
