"""docker-compose.yml: what it pins, opens and passes on, and the two configurations that it holds."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from annotated_types import Le
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE
from pydantic_settings import BaseSettings

from inventory_worker.settings import Settings as WorkerSettings
from order_api.replies import ReplyKind
from order_api.settings import Settings as ApiSettings
from shared.contract.topology import RETRY_DELAYS
from shared.rabbit.settle import DeliveryOutcome
from shared.service.telemetry_settings import TelemetrySettings
from shared.telemetry import semconv
from shared.tools.local.rabbitmq_config import MAX_MESSAGE_BYTES
from tests.compose import COMPOSE, TEXT, config

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN_IMAGE = "traced-orders"

SIGNALS = {"traces", "metrics", "logs"}
MEMBERS: dict[str, type[StrEnum]] = {
    semconv.DELIVERY_REPLY: ReplyKind,
    semconv.DELIVERY_OUTCOME: DeliveryOutcome,
}


PROXY = config("proxy")
COLLECTOR: dict[str, Any] = yaml.safe_load(config("collector"))
SAMPLING: dict[str, Any] = COLLECTOR["processors"]["tail_sampling"]


def _policies(kind: str) -> list[dict[str, Any]]:
    return [policy[kind] for policy in SAMPLING["policies"] if policy["type"] == kind]


def _seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|m)", duration)
    assert match, duration
    return int(match[1]) * {"ms": 0.001, "s": 1, "m": 60}[match[2]]


def _proxy_seconds(directive: str) -> float:
    match = re.search(rf"^\s*{directive} (\S+)$", PROXY, re.MULTILINE)
    assert match, directive
    return _seconds(match[1])


def _settings_in_example() -> set[str]:
    return set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def test_every_image_is_pinned_or_built_here() -> None:
    images = {name: str(service["image"]) for name, service in SERVICES.items()}
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    bases = {base for base, _ in stages} - {name for _, name in stages}

    foreign = {image for image in images.values() if image != OWN_IMAGE} | bases

    assert all(re.search(r":v?\d", image) for image in foreign), foreign
    own = [SERVICES[name] for name, image in images.items() if image == OWN_IMAGE]
    assert sum("build" in service for service in own) == 1
    assert all(service["pull_policy"] in {"build", "never"} for service in own)


def test_the_broker_takes_what_a_service_may_be_set_to_read_and_no_more() -> None:
    settings = dict(re.findall(r"^(\w+) = (\S+)$", config("rabbitmq"), re.MULTILINE))

    assert settings == {"max_message_size": str(MAX_MESSAGE_BYTES)}
    assert Le(MAX_MESSAGE_BYTES) in WorkerSettings.model_fields["max_message_bytes"].metadata


def test_ports_are_open_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports), ports


def test_only_the_proxy_publishes_the_port_of_the_order_api() -> None:
    publishers = [
        name for name, service in SERVICES.items() if any(":8000" in port for port in service.get("ports", []))
    ]

    assert publishers == ["proxy"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_can_gain_privileges(name: str) -> None:
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_with_an_inline_configuration_is_not_read_only(name: str) -> None:
    """Compose writes the configuration into the container, and a read-only one refuses it."""
    service = SERVICES[name]

    assert not (service.get("configs") and service.get("read_only"))


@pytest.mark.parametrize("name", SERVICES)
def test_no_check_is_disabled(name: str) -> None:
    """`docker compose up --wait` ends with an error for a container whose check is."""
    assert not SERVICES[name].get("healthcheck", {}).get("disable")


def test_every_configuration_is_given_to_a_service() -> None:
    used = [config["source"] for service in SERVICES.values() for config in service.get("configs", [])]

    assert sorted(used) == sorted(COMPOSE["configs"])


def test_whatever_compose_reads_from_the_environment_is_in_the_example() -> None:
    interpolated = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT))
    passed_on = {
        name for service in SERVICES.values() for name, value in service.get("environment", {}).items() if value is None
    }

    assert interpolated
    assert passed_on
    assert interpolated | passed_on <= _settings_in_example()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("order-api", ApiSettings), ("inventory-worker", WorkerSettings)],
)
def test_every_setting_reaches_its_service(name: str, settings: type[BaseSettings]) -> None:
    fields = {field.upper() for field in (*settings.model_fields, *TelemetrySettings.model_fields)}
    # They have a token in a file instead.
    fields -= {"OPENOBSERVE_PASSWORD"}
    from_the_image = {field for field in fields if field.endswith(("_HOST", "_PORT"))}

    environment = set(SERVICES[name]["environment"])

    assert fields - from_the_image <= environment
    assert fields | {each for each in environment if each.startswith("OTEL_")} >= environment
    assert environment <= _settings_in_example()


def test_the_proxy_finds_the_replicas_by_the_name_of_their_service() -> None:
    match = re.search(r"^\s*server-template \w+ \d+ (\S+):(\d+)$", PROXY, re.MULTILINE)

    assert match
    assert match[1] in SERVICES
    assert int(match[2]) == ApiSettings.model_fields["order_api_port"].default
    assert "init-addr none" in PROXY


def test_the_proxy_keeps_replicas_that_are_alive_though_not_ready() -> None:
    assert "option httpchk GET /health\n" in PROXY
    assert "/ready" not in "".join(line for line in PROXY.splitlines() if not line.lstrip().startswith("#"))


def test_the_proxy_repeats_no_order_that_may_have_been_read() -> None:
    assert "http-request disable-l7-retry unless METH_GET\n" in PROXY


def test_the_proxy_waits_longer_than_the_api_ever_does() -> None:
    (longest,) = [each.le for each in ApiSettings.model_fields["reply_timeout"].metadata if isinstance(each, Le)]

    assert _proxy_seconds("timeout server") > longest  # type: ignore[operator]
    assert _proxy_seconds("timeout client") >= _proxy_seconds("timeout server")


def test_the_proxy_has_ended_before_it_would_be_killed() -> None:
    assert _proxy_seconds("hard-stop-after") < _seconds(SERVICES["proxy"]["stop_grace_period"])


def test_the_collector_runs_only_when_asked_for() -> None:
    assert SERVICES["collector"]["profiles"] == ["collector"]
    assert not any("collector" in service.get("depends_on", {}) for service in SERVICES.values())


@pytest.mark.parametrize("kind", ["receivers", "processors", "exporters"])
def test_every_component_of_the_collector_is_defined_and_used(kind: str) -> None:
    pipelines = COLLECTOR["service"]["pipelines"]

    used = {name for pipeline in pipelines.values() for name in pipeline[kind]}

    assert set(pipelines) == SIGNALS
    assert used == set(COLLECTOR[kind])


def test_every_extension_of_the_collector_is_defined_and_used() -> None:
    authenticators = {exporter["auth"]["authenticator"] for exporter in COLLECTOR["exporters"].values()}

    assert set(COLLECTOR["service"]["extensions"]) == set(COLLECTOR["extensions"]) == authenticators


def test_the_collector_has_every_variable_that_its_configuration_names() -> None:
    named = {name for text in _strings(COLLECTOR) for name in re.findall(r"\$\{env:(\w+)\}", text)}

    assert named == set(SERVICES["collector"]["environment"])
    assert "${" not in "".join(_strings(COLLECTOR)).replace("${env:", "")


def test_the_collector_refuses_before_it_runs_out_of_memory() -> None:
    limiter = COLLECTOR["processors"]["memory_limiter"]
    allowed = re.fullmatch(r"(\d+)m", SERVICES["collector"]["mem_limit"])

    assert all(pipeline["processors"][0] == "memory_limiter" for pipeline in COLLECTOR["service"]["pipelines"].values())
    assert allowed
    assert limiter["limit_mib"] < int(allowed[1])


def test_only_traces_are_sampled() -> None:
    pipelines = COLLECTOR["service"]["pipelines"]

    assert {name for name, pipeline in pipelines.items() if "tail_sampling" in pipeline["processors"]} == {"traces"}


def test_each_policy_has_its_own_name_and_the_settings_of_its_type() -> None:
    policies = SAMPLING["policies"]

    assert len({policy["name"] for policy in policies}) == len(policies)
    assert all(set(policy) <= {"name", "type", policy["type"]} for policy in policies)


def test_policies_look_for_attributes_that_the_services_write() -> None:
    by_value = {policy["key"]: set(policy["values"]) for policy in _policies("string_attribute")}

    assert all(values <= set(MEMBERS[key]) for key, values in by_value.items())
    assert [policy["key"] for policy in _policies("boolean_attribute")] == [semconv.DELIVERY_REDELIVERED]
    assert [policy["key"] for policy in _policies("numeric_attribute")] == [HTTP_RESPONSE_STATUS_CODE]


@pytest.mark.parametrize(
    ("key", "ordinary"), [(semconv.DELIVERY_REPLY, ReplyKind.MATCHED), (semconv.DELIVERY_OUTCOME, DeliveryOutcome.ACK)]
)
def test_every_trace_out_of_the_ordinary_is_kept(key: str, ordinary: StrEnum) -> None:
    (kept,) = [set(policy["values"]) for policy in _policies("string_attribute") if policy["key"] == key]

    assert kept == set(MEMBERS[key]) - {ordinary}


def test_failed_and_undecided_orders_are_kept() -> None:
    assert _policies("status_code") == [{"status_codes": ["ERROR"]}]
    assert [(policy["min_value"], policy["max_value"]) for policy in _policies("numeric_attribute")] == [(202, 202)]


def test_a_trace_is_judged_after_its_request_and_two_retries_have_ended() -> None:
    reply_timeout = ApiSettings.model_fields["reply_timeout"].default

    assert _seconds(SAMPLING["decision_wait"]) > reply_timeout + sum(RETRY_DELAYS[:2])


def test_root_s_password_of_openobserve_is_with_itself_and_with_the_setup_alone() -> None:
    holders = {name for name, service in SERVICES.items() if "Traced-orders-1" in "".join(_strings(service))}

    assert holders == {"openobserve", "observe-setup"}
    assert "OPENOBSERVE_PASSWORD}" not in config("collector")


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_bounded_and_has_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert set(service["networks"]) <= set(COMPOSE["networks"])


def test_each_service_has_a_role_of_its_own_in_a_database_of_its_own() -> None:
    script = config("databases")
    roles = {name: SERVICES[name]["environment"]["DATABASE_URL"] for name in ("order-api", "inventory-worker")}

    for name, url in roles.items():
        match = re.fullmatch(r"postgresql://(\w+):(\$\{[^}]+\})@postgres:5432/(\w+)", url)
        assert match, url
        role, password, database = match.groups()
        assert role == name.replace("-", "_")
        assert f"CREATE ROLE {role} LOGIN PASSWORD '{password}';" in script
        assert f"CREATE DATABASE {database} OWNER {role};" in script
        assert f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;" in script


def test_who_talks_to_whom_shares_a_network_and_nobody_else_reaches_a_database() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}

    for one, other in (
        ("proxy", "order-api"),
        ("order-api", "rabbitmq"),
        ("inventory-worker", "rabbitmq"),
        ("order-api", "postgres"),
        ("inventory-worker", "postgres"),
        ("order-api", "openobserve"),
        ("order-api", "collector"),
        ("collector", "openobserve"),
        ("observe-setup", "openobserve"),
    ):
        assert networks[one] & networks[other], (one, other)
    for outsider in ("proxy", "openobserve", "collector", "observe-setup"):
        assert not networks[outsider] & (networks["postgres"] | networks["rabbitmq"]), outsider
    assert COMPOSE["networks"]["database"] == {"internal": True}
