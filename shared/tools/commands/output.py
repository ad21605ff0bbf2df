"""How the commands of `orders` write what they found: for people, or as JSON for scripts."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console


def new_console() -> Console:
    """Make the console that a command prints on; nothing is coloured but what a command colours itself."""
    return Console(highlight=False)


def print_json(value: Any) -> None:
    """Print a value on one line."""
    sys.stdout.write(json.dumps(value) + "\n")


@contextmanager
def json_array() -> Iterator[Callable[[Any], None]]:
    """Print an array one value at a time, so that it need not be held; it is whole, too, where only a part was done."""
    values = 0

    def add(value: Any) -> None:
        nonlocal values
        sys.stdout.write((", " if values else "[") + json.dumps(value))
        values += 1

    try:
        yield add
    except BaseException:
        if values:
            sys.stdout.write("]\n")
        raise
    sys.stdout.write("]\n" if values else "[]\n")
