"""The rules of the house that no linter knows: files of one idea, and no two names for one thing or one name for two."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = [path for room in ("order_api", "inventory_worker", "shared") for path in sorted((ROOT / room).rglob("*.py"))]
MOST_LINES = 200
ALIKE = {"__init__.py", "__main__.py", "app.py", "routes.py", "settings.py", "env.py", "Settings", "Resources"}
"""What both services have, and what means the same in each."""
TOLD = {"orders.py"}
"""The business, and in `shared/tracing` what is told of it."""


def test_no_file_of_the_product_is_too_long_for_one_idea() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PRODUCT}

    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_two_files_of_the_product_share_a_name_that_means_two_things() -> None:
    found = defaultdict(list)
    for path in PRODUCT:
        found[path.name].append(str(path.relative_to(ROOT)))

    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in ALIKE | TOLD} == {}


def test_no_two_public_classes_of_the_product_share_a_name() -> None:
    found = defaultdict(list)
    for path in PRODUCT:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))

    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in ALIKE} == {}
