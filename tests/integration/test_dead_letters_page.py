"""The dead letters on the page: grouped, with their bodies, replayed and dropped by nobody but who stands before it."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from shared.contract import topology
from shared.tools.receiver.asgi import create_app
from tests.browser.embedded_receiver import SETTINGS, serving
from tests.dead_letters import letter, put
from tests.system import VirtualHost
from tests.waiting import eventually

OWN, FOREIGN = {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "cross-site"}


@pytest.fixture
def page(virtual_host: VirtualHost) -> Iterator[httpx.Client]:
    put(
        virtual_host,
        [
            letter(
                b'{"n": "<first>"}', message_id="m1", correlation_id="ORDER1", headers={"x-death-reason": "malformed"}
            ),
            letter(b'{"n": 2}', message_id="m2", correlation_id="ORDER2"),
        ],
    )
    settings = replace(SETTINGS, amqp_url=virtual_host.amqp_url)
    with (
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60, follow_redirects=True) as client,
    ):
        yield client


def _ids(text: str) -> list[str]:
    return [part.partition('"')[0] for part in text.split('name="id" value="')[1:]]


def test_letters_are_shown_by_reason_with_their_bodies(page: httpx.Client) -> None:
    shown = page.get("/queues/dead").text

    assert "order ORDER1" in shown
    assert "&quot;&lt;first&gt;&quot;" in shown
    assert "2 letters" in shown or shown.count("1 letter") == 2
    assert 'href="/queues/dead"' in page.get("/queues").text


def test_a_letter_is_dropped_and_another_replayed(page: httpx.Client, virtual_host: VirtualHost) -> None:
    ids = list(dict.fromkeys(_ids(page.get("/queues/dead").text)))

    dropped = page.post("/queues/dead/drop", data={"id": ids[0]}, headers=OWN)
    replayed = page.post("/queues/dead/replay", data={"id": ids[1]}, headers=OWN)

    assert "was dropped" in dropped.text
    assert "was replayed" in replayed.text
    eventually(lambda: virtual_host.queues().get(topology.INVENTORY_CHECK) == 1, what="the replayed check in its queue")
    assert "There are none." in page.get("/queues/dead").text


def test_nobody_else_s_page_touches_a_letter(page: httpx.Client) -> None:
    letter_id = _ids(page.get("/queues/dead").text)[0]

    assert page.post("/queues/dead/drop", data={"id": letter_id}, headers=FOREIGN).status_code == 403
    assert page.post("/queues/dead/drop", data={}, headers=OWN).status_code == 422
    assert page.post("/queues/dead/eat", data={"id": letter_id}, headers=OWN).status_code == 404
    assert "There is no dead letter" in page.post("/queues/dead/drop", data={"id": "nobody"}, headers=OWN).text
    assert letter_id in page.get("/queues/dead").text


def test_a_broker_that_is_away_is_told_on_the_page() -> None:
    settings = replace(SETTINGS, amqp_url="amqp://guest:guest@127.0.0.1:1/")
    with serving(create_app(settings)) as url:
        shown = httpx.get(f"{url}/queues/dead", trust_env=False, timeout=60)

    assert shown.status_code == 502
    assert 'role="alert"' in shown.text
