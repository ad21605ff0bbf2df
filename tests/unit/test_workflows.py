"""The workflows of GitHub: they run what people run, and name nothing that is not there."""

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
JOBS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
RUN = "\n".join(step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step)
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_the_workflow_runs_what_the_repositorys_own_script_runs() -> None:
    own = re.findall(r"^make [\w-]+", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)

    assert own
    assert set(own) <= set(re.findall(r"^make [\w-]+", RUN, re.MULTILINE))


def test_the_workflow_names_targets_and_services_that_are_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"^make ([\w-]+)", RUN, re.MULTILINE)) <= set(targets)
    assert set(re.findall(r"docker compose exec -T ([\w-]+)", RUN)) <= set(SERVICES)


def test_every_job_ends() -> None:
    assert all(job["timeout-minutes"] <= 60 for job in JOBS.values())


def test_dependabot_looks_after_all_that_is_pinned() -> None:
    found = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())

    assert {update["package-ecosystem"] for update in found["updates"]} == {
        "pip",
        "docker",
        "docker-compose",
        "github-actions",
    }
