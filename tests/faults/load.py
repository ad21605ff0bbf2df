"""Orders from several clients at once, for as long as a test wants, with a record of what each was told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.system import Api, new_id, order_body


@dataclass
class Load:
    """What the clients have been told so far."""

    answers: dict[str, httpx.Response] = field(default_factory=dict)
    """By order id; nothing of a request that got no answer."""
    unanswered: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def accepted(self) -> set[str]:
        """Give the orders that the API has promised to see through."""
        return {order_id for order_id, answer in self.answers.copy().items() if answer.status_code in {201, 202}}

    @property
    def refused(self) -> dict[str, int]:
        """Give the status of every answer that was no promise."""
        answers = self.answers.copy().items()
        return {order_id: each.status_code for order_id, each in answers if each.status_code not in {201, 202}}

    def submit(self, base_url: str) -> None:
        """Place one order after the other until told to stop; an API that is away is tried again."""
        with httpx.Client(base_url=base_url, timeout=60, trust_env=False) as client:
            while not self.stopping.is_set():
                order_id = new_id()
                try:
                    self.answers[order_id] = client.post("/orders", json=order_body({"widget": 1}, order_id))
                except httpx.HTTPError:
                    self.unanswered.append(order_id)
                    self.stopping.wait(0.05)


@contextmanager
def load_on(api: Api, clients: int) -> Iterator[Load]:
    """Keep so many clients busy while the context lasts."""
    load = Load()
    threads = [threading.Thread(target=load.submit, args=(api.service.url,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join()
