"""docker-compose.yml, and the configurations that it holds."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

TEXT = (Path(__file__).parents[1] / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)


def config(name: str) -> str:
    """Give a configuration as its service reads it: Compose takes the second of two dollar signs away."""
    return str(COMPOSE["configs"][name]["content"]).replace("$$", "$")
