"""Starts the inventory worker: `inventory-worker` or `python -m inventory_worker`."""

import sys

from inventory_worker.app import create_app
from inventory_worker.settings import Settings
from shared.service import process as service


def main() -> None:
    """Run the inventory worker until it is told to end."""
    sys.exit(service.run("inventory-worker", Settings, create_app))


if __name__ == "__main__":
    main()
