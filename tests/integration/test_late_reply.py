"""A reply that comes after the deadline: a timeout means unknown, not no."""

from tests.receiver import names
from tests.system import System, new_id, stock_levels


def test_a_late_reply_completes_its_order_and_links_to_the_request_that_waited(system: System) -> None:
    worker = system.start_worker().wait_until_ready()
    api = system.start_api(REPLY_TIMEOUT="0.3")
    api.service.wait_until_ready()
    order_id = new_id()

    with worker.paused():
        answer = api.submit({"widget": 1}, order_id)
    order = api.wait_for_outcome(order_id)

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/orders/{order_id}"
    assert answer.json()["status"] == "pending"
    assert order["status"] == "success"
    assert stock_levels(worker)["widget"] == 999_999
    spans = system.receiver.wait_for_trace(answer.headers["x-trace-id"], lambda found: len(found) == 5)
    server = next(span for span in spans if span.kind == "SERVER")
    reply = next(span for span in spans if span.name == "process order-api.replies.{instance}")
    assert server.attributes["order.status"] == "pending"
    assert not server.links
    assert {str(link.attributes["link.reason"]): link.span_id for link in reply.links}[
        "late_reply_to"
    ] == server.span_id
    assert reply.start_ns > server.end_ns


def test_a_repeat_of_an_order_that_is_still_open_waits_for_the_same_reply(system: System) -> None:
    api = system.start_api(REPLY_TIMEOUT="0.2")
    api.service.wait_until_ready()
    order_id = new_id()

    first = api.submit({"widget": 1}, order_id)
    second = api.submit({"widget": 1}, order_id)
    system.start_worker().wait_until_ready()
    order = api.wait_for_outcome(order_id)

    assert (first.status_code, second.status_code) == (202, 202)
    assert order["status"] == "success"
    spans = system.receiver.wait_for_trace(first.headers["x-trace-id"], lambda found: len(found) >= 5)
    assert names(spans).count("send orders:inventory.check") == 1
