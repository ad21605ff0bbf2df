"""What becomes of orders: in stock and out of it, repeated, in conflict, malformed, and two hundred at once."""

import asyncio

import httpx
import pytest

from tests.receiver import is_commit, names
from tests.system import Api, Service, System, new_id, order_body, stock_levels
from tests.waiting import eventually


def test_an_order_in_stock_is_decided_in_the_answer(api: Api) -> None:
    order_id = new_id()

    answer = api.submit({"widget": 2}, order_id)

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/orders/{order_id}"
    order = answer.json()
    assert (order["order_id"], order["status"], order["reason"]) == (order_id, "success", None)
    assert order["items"] == [{"sku": "widget", "quantity": 2}]
    assert order["trace_id"] == answer.headers["x-trace-id"]
    assert order["created_at"] < order["decided_at"]
    assert api.read(order_id) == order


def test_an_order_without_an_id_gets_one(api: Api) -> None:
    order = api.submit({"widget": 1}).json()

    assert api.read(order["order_id"])["status"] == "success"


def test_an_order_takes_exactly_its_stock(api: Api, shared_worker: Service) -> None:
    before = stock_levels(shared_worker)

    api.submit({"widget": 7}).raise_for_status()

    assert stock_levels(shared_worker) == {**before, "widget": before["widget"] - 7}


def test_an_order_of_several_items_takes_all_of_them_or_none(api: Api, shared_worker: Service) -> None:
    before = stock_levels(shared_worker)

    refused = api.submit({"widget": 1, "gizmo": before["gizmo"] + 1}).json()
    after_refusal = stock_levels(shared_worker)
    taken = api.submit({"widget": 1, "gizmo": 1}).json()

    assert (refused["status"], refused["reason"]) == ("out_of_stock", "insufficient_stock: gizmo")
    assert after_refusal == before
    assert taken["status"] == "success"
    assert stock_levels(shared_worker)["gizmo"] == before["gizmo"] - 1


def test_the_same_sku_twice_counts_as_its_sum(api: Api, shared_worker: Service) -> None:
    left = stock_levels(shared_worker)["gadget"]
    lines = [{"sku": "gadget", "quantity": left}, {"sku": "gadget", "quantity": 1}]

    order = api.http.post("/orders", json={"items": lines}).json()

    assert order["status"] == "out_of_stock"
    assert order["items"] == [{"sku": "gadget", "quantity": left + 1}]


def test_the_most_of_one_sku_may_come_in_several_lines(api: Api) -> None:
    lines = [{"sku": "gadget", "quantity": 999_999}, {"sku": "widget", "quantity": 1}, {"sku": "gadget", "quantity": 1}]

    order = api.http.post("/orders", json={"items": lines}).json()

    assert order["status"] == "out_of_stock"
    assert order["items"] == [{"sku": "gadget", "quantity": 1_000_000}, {"sku": "widget", "quantity": 1}]


def test_an_unknown_sku_is_an_error_that_names_it(api: Api) -> None:
    answer = api.submit({"widget": 1, "flux-capacitor": 1})

    assert answer.status_code == 201
    assert (answer.json()["status"], answer.json()["reason"]) == ("error", "unknown_sku: flux-capacitor")


def test_the_same_order_again_gets_the_first_outcome_and_takes_nothing(
    api: Api, shared_worker: Service, shared_system: System
) -> None:
    order_id = new_id()
    first = api.submit({"widget": 3}, order_id)
    before = stock_levels(shared_worker)

    again = api.submit({"widget": 3}, order_id)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["x-trace-id"] != first.headers["x-trace-id"]
    assert stock_levels(shared_worker) == before
    receiver = shared_system.receiver
    (second_request,) = receiver.wait_for_trace(again.headers["x-trace-id"], bool)
    first_request = receiver.wait_for_trace(first.headers["x-trace-id"], lambda found: "POST /orders" in names(found))[
        0
    ]
    (link,) = second_request.links
    assert (link.trace_id, link.span_id) == (first_request.trace_id, first_request.span_id)
    assert link.attributes["link.reason"] == "duplicate_of"


def test_the_order_of_the_items_does_not_make_another_order(api: Api) -> None:
    order_id = new_id()
    api.submit({"widget": 1, "gizmo": 1}, order_id).raise_for_status()

    assert api.submit({"gizmo": 1, "widget": 1}, order_id).status_code == 200


def test_the_same_id_with_other_items_is_a_conflict_and_changes_nothing(api: Api, shared_worker: Service) -> None:
    order_id = new_id()
    first = api.submit({"widget": 1}, order_id).json()
    before = stock_levels(shared_worker)

    answer = api.submit({"widget": 2}, order_id)

    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert order_id in answer.json()["detail"]
    assert api.read(order_id) == first
    assert stock_levels(shared_worker) == before


def test_the_tutorials_call_answers_as_it_always_did(api: Api) -> None:
    order_id = new_id("ORDER")

    answer = api.http.post("/orders/create", params={"order_id": order_id})

    assert answer.status_code == 200
    assert answer.json() == {"status": "success", "order_id": order_id}
    assert api.read(order_id)["items"] == [{"sku": "widget", "quantity": 1}]
    assert api.http.post("/orders/create", params={"order_id": order_id}).json() == answer.json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": [{"sku": "widget"}]}, "quantity"),
        ({"items": [{"sku": "widget", "quantity": 0}]}, "quantity"),
        ({"items": [{"sku": "widget", "quantity": 1.5}]}, "quantity"),
        ({"items": [{"sku": "widget", "quantity": True}]}, "quantity"),
        ({"items": [{"sku": "widget", "quantity": 1_000_001}]}, "quantity"),
        ({"items": [{"sku": "", "quantity": 1}]}, "sku"),
        ({"items": [{"sku": "w" * 65, "quantity": 1}]}, "sku"),
        ({"items": [{"sku": "wid\u0000get", "quantity": 1}]}, "sku"),
        ({"items": [{"sku": f"s{n}", "quantity": 1} for n in range(51)]}, "items"),
        ({"items": [{"sku": "widget", "quantity": 1}], "order_id": "../etc"}, "order_id"),
        ({"items": [{"sku": "widget", "quantity": 1}], "order_id": "x" * 65}, "order_id"),
        ({"items": [{"sku": "widget", "quantity": 1}], "discount": 5}, "discount"),
        ({"items": [{"sku": "widget", "quantity": 1}], "customer": {"id": "c", "email": "no"}}, "email"),
        ({"items": [{"sku": "widget", "quantity": 1_000_000}, {"sku": "widget", "quantity": 1}]}, "items"),
    ],
)
def test_input_out_of_bounds_is_refused_with_the_field_at_fault(api: Api, body: dict[str, object], field: str) -> None:
    answer = api.http.post("/orders", json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert any(field in error["field"] for error in problem["errors"])
    assert answer.headers["x-trace-id"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"items": NaN}'])
def test_a_body_that_is_no_order_is_refused(api: Api, content: bytes) -> None:
    answer = api.http.post("/orders", content=content, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_head_answers_as_get_without_the_body(api: Api, shared_worker: Service) -> None:
    order_id = api.submit({"widget": 1}).json()["order_id"]

    for service, path in [
        (api.service, f"/orders/{order_id}"),
        (api.service, "/orders/no-such-order"),
        (api.service, "/health"),
        (api.service, "/ready"),
        (api.service, "/openapi.json"),
        (shared_worker, "/inventory/gadget"),
        (shared_worker, "/health"),
    ]:
        with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
            head = client.head(path)
            get = client.get(path)  # on the same connection, which a body that is sent after all would garble

        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
        assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_oversized_body_is_refused_with_413(api: Api, is_chunked: bool) -> None:
    pieces = [b'{"items": [', b" " * 100_000, b"]}"]

    answer = api.http.post(
        "/orders",
        content=iter(pieces) if is_chunked else b"".join(pieces),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/orders/no-such-order", 404), ("GET", "/nowhere", 404), ("DELETE", "/orders/x", 405)],
)
def test_what_is_not_there_is_a_problem_with_a_trace_id(api: Api, method: str, path: str, status: int) -> None:
    answer = api.http.request(method, path)

    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-trace-id"]


def test_the_openapi_page_and_document_are_there(api: Api) -> None:
    document = api.http.get("/openapi.json").json()

    assert {"/orders", "/orders/create", "/orders/{order_id}", "/health", "/ready"} <= document["paths"].keys()
    assert api.http.get("/docs").status_code == 200


def test_both_services_say_that_they_are_healthy_and_ready(api: Api, shared_worker: Service) -> None:
    for url in (api.service.url, shared_worker.url):
        assert httpx.get(f"{url}/health", trust_env=False).json() == {"status": "healthy"}
        assert httpx.get(f"{url}/ready", trust_env=False).json() == {"status": "ready"}


def test_probes_leave_no_spans(api: Api, shared_system: System) -> None:
    api.http.get("/health")
    marker = api.submit({"widget": 1}).headers["x-trace-id"]

    shared_system.receiver.wait_for_trace(marker, lambda found: "POST /orders" in names(found))

    assert not [span for span in shared_system.receiver.spans() if "health" in span.name or "ready" in span.name]


async def test_two_hundred_concurrent_orders_each_get_their_own_answer_and_trace(
    api: Api, shared_worker: Service, shared_system: System
) -> None:
    before = stock_levels(shared_worker)["widget"]
    quantities = {new_id(): number for number in range(1, 201)}

    async with httpx.AsyncClient(base_url=api.service.url, timeout=60, trust_env=False) as client:
        answers = await asyncio.gather(
            *(client.post("/orders", json=order_body({"widget": n}, order_id)) for order_id, n in quantities.items())
        )

    assert [answer.status_code for answer in answers] == [201] * 200
    assert {a.json()["order_id"]: a.json()["items"][0]["quantity"] for a in answers} == quantities
    assert {answer.json()["status"] for answer in answers} == {"success"}
    assert stock_levels(shared_worker)["widget"] == before - sum(quantities.values())
    traces = {answer.headers["x-trace-id"]: answer.json()["order_id"] for answer in answers}
    assert len(traces) == 200
    receiver = shared_system.receiver

    def spans_by_trace() -> dict[str, list[str]] | None:
        found: dict[str, list[str]] = {trace_id: [] for trace_id in traces}
        for span in receiver.spans():
            if span.trace_id in found and not is_commit(span):
                found[span.trace_id].append(span.name)
        return found if sum(map(len, found.values())) >= 5 * 200 else None

    found = eventually(spans_by_trace, within=30, what="five spans of each of 200 orders")
    assert found is not None
    assert {tuple(sorted(spans)) for spans in found.values()} == {
        (
            "POST /orders",
            "process order-api.replies.{instance}",
            "process orders:inventory.check",
            "send order-api.replies.{instance}",
            "send orders:inventory.check",
        )
    }
    for span in receiver.spans():
        if span.trace_id in traces and "order.id" in span.attributes:
            assert span.attributes["order.id"] == traces[span.trace_id]


def test_concurrent_repeats_of_one_order_take_its_stock_once(api: Api, shared_worker: Service) -> None:
    before = stock_levels(shared_worker)["widget"]
    order_id = new_id()

    async def submit_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=api.service.url, timeout=60, trust_env=False) as client:
            body = order_body({"widget": 5}, order_id)
            return await asyncio.gather(*(client.post("/orders", json=body) for _ in range(20)))

    answers = asyncio.run(submit_all())

    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert {answer.json()["status"] for answer in answers} == {"success"}
    assert stock_levels(shared_worker)["widget"] == before - 5


def test_stock_can_be_read_and_set(shared_worker: Service) -> None:
    with httpx.Client(base_url=shared_worker.url, trust_env=False) as client:
        assert client.put("/inventory/new-thing", json={"available": 12}).json() == {
            "sku": "new-thing",
            "available": 12,
        }
        assert client.get("/inventory/new-thing").json() == {"sku": "new-thing", "available": 12}
        assert client.get("/inventory/no-such-thing").status_code == 404
        for wrong in (-1, True, "5", 1.5, None):
            assert client.put("/inventory/new-thing", json={"available": wrong}).status_code == 422
