"""A service that has lost a part that it cannot do without ends, so that whoever runs it starts it again."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx

from shared.tools.local.ports import claim_port, port_of

ROOT = Path(__file__).parents[2]
SERVICE = """
import asyncio, contextlib, sys, threading
from dataclasses import dataclass
from shared.service import process
from shared.service.http import new_app
from shared.storage.database import Database
from shared.storage.group_commit import GroupCommit

@dataclass
class Settings:
    address: tuple[str, int] = ("127.0.0.1", int(sys.argv[1]))
    log_level: str = "INFO"
    order_api_key: None = None

has_begun, may_end = threading.Event(), threading.Event()

def hang(connection, batch):
    has_begun.set()
    may_end.wait(60)
    return batch

def create_app(settings, telemetry, instance):
    database = Database(sys.argv[2])
    commits = GroupCommit(database, "commit numbers", hang)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with database.open(), commits.running():
            yield

    app = new_app("a service", "that writes", lifespan, {"database": database.ping})

    writing = []

    @app.post("/write")
    async def write():
        writing.append(1)
        while len(writing) > 1 and not has_begun.is_set():
            await asyncio.sleep(0.01)
        return await commits.submit(1)

    @app.post("/break")
    async def break_it():
        while len(writing) < 4 or not has_begun.is_set():
            await asyncio.sleep(0.01)
        (committer,) = (task for task in asyncio.all_tasks() if task.get_name() == "commit numbers")
        asyncio.get_running_loop().call_later(0.2, committer.cancel)
        threading.Timer(1, may_end.set).start()

    return app

sys.exit(process.run("a-service", Settings, create_app))
"""


async def test_a_service_whose_committer_ends_answers_who_waits_and_ends_with_1(tmp_path: Path) -> None:
    """One write hangs in its transaction and three wait behind it when the committer is cancelled."""
    with claim_port() as claim:
        port = port_of(claim)
        command = [sys.executable, "-c", SERVICE, str(port), f"sqlite:///{tmp_path}/n.db"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as service:
            try:
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
                    await _ready(http)
                    writing = [asyncio.create_task(http.post("/write")) for _ in range(4)]
                    await http.post("/break")
                    answers = [await each for each in writing]
                _, log = await asyncio.to_thread(service.communicate, timeout=60)
            finally:
                service.kill()

    assert service.returncode == 1
    # What was in the transaction may have been written; 503 is for what certainly was not.
    assert {answer.status_code for answer in answers} == {503, 504}
    assert log.count("the service ends: commit numbers has ended") == 1


async def _ready(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await http.get("/ready")).status_code == 200:
                    return
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
