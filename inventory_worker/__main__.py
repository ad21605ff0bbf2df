"""Starts the inventory worker: `inventory-worker` or `python -m inventory_worker`."""

import sys

from shared.service.environment import prepare


def main() -> None:
    """Run the inventory worker until it is told to end."""
    to_say = prepare("inventory-worker")
    # Only now: what they import reads the environment as it is imported.
    from inventory_worker.app import create_app
    from inventory_worker.settings import Settings
    from shared.service.process import run

    sys.exit(run("inventory-worker", Settings, create_app, to_say))


if __name__ == "__main__":
    main()
