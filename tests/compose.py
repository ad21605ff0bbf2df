"""docker-compose.yml, and the configurations that it holds."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

TEXT = (Path(__file__).parents[1] / "docker-compose.yml").read_text()


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is there twice, as Compose does; YAML for Python takes the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{sorted(twice)} defined twice", node.start_mark)
        return dict(super().construct_mapping(node, deep))


COMPOSE: dict[str, Any] = yaml.load(TEXT, _Loader)  # noqa: S506 (a safe loader)


def config(name: str) -> str:
    """Give a configuration as its service reads it: Compose takes the second of two dollar signs away."""
    return str(COMPOSE["configs"][name]["content"]).replace("$$", "$")
