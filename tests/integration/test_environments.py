"""Services in environments as people have them: Kubernetes' variables, an operator's, another tool's, a proxy's."""

import json

from shared.service.otel_kinds import ANY
from shared.service.otel_variables import VARIABLES
from shared.tools.local.ports import LOOPBACK, claim_port, port_of
from shared.tools.local.probe import status_of
from tests.system import System
from tests.waiting import eventually


def test_with_nonsense_in_every_otel_variable_and_ports_of_kubernetes_orders_are_served_and_traced(
    system: System,
) -> None:
    nonsense = {name: "b3" for name, kind in VARIABLES.items() if kind is not ANY}
    elsewhere = {
        "HTTP_PROXY": "http://127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": "/nowhere.pem",
        "ALL_PROXY": "http://127.0.0.1:1",
    }
    worker = system.start_worker(**nonsense, **elsewhere).wait_until_ready()
    api = system.start_api(**nonsense, **elsewhere, LOG_LEVEL="Info", FASTAPI_OTEL_AUTO_CONFIGURE="true")
    api.service.wait_until_ready()

    answer = api.submit({"widget": 1})

    assert answer.json()["status"] == "success"
    system.receiver.wait_for_trace(answer.headers["x-trace-id"], lambda found: len(found) == 5)
    for service in (api.service, worker):
        said = [json.loads(line)["message"] for line in service.log.splitlines()]
        assert {name: sum(line.startswith(f"{name}: ") for line in said) for name in nonsense} == dict.fromkeys(
            nonsense, 1
        )
        assert "Traceback" not in service.log
    assert (api.service.end(), worker.end()) == (0, 0)


def test_services_named_as_their_settings_start_on_the_ports_that_kubernetes_injects(system: System) -> None:
    with claim_port() as first, claim_port() as second:
        ports = port_of(first), port_of(second)
        system.start_worker(INVENTORY_WORKER_PORT=f"tcp://10.96.0.12:{ports[0]}")
        system.start_api(ORDER_API_PORT=f"tcp://[fd00::1]:{ports[1]}")

        eventually(lambda: all(map(_serves, ports)), within=90, what=f"services on the ports {ports}")


def _serves(port: int) -> bool:
    return status_of(f"http://{LOOPBACK}:{port}/health") == 200


def test_without_propagation_orders_are_served_and_every_service_has_traces_of_its_own(system: System) -> None:
    system.start_worker(OTEL_PROPAGATORS="none").wait_until_ready()
    api = system.start_api(OTEL_PROPAGATORS="none")
    api.service.wait_until_ready()

    answer = api.submit({"widget": 1}, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")

    assert answer.json()["status"] == "success"
    assert answer.headers["x-trace-id"] != "a" * 32
    spans = system.receiver.wait_for_trace(answer.headers["x-trace-id"], lambda found: len(found) >= 2)
    assert {span.service for span in spans} == {"order-api"}
