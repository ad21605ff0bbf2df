"""Starts the order API: `order-api` or `python -m order_api`."""

import sys

from order_api.app import create_app
from order_api.settings import Settings
from shared.service import process as service


def main() -> None:
    """Run the order API until it is told to end."""
    sys.exit(service.run("order-api", Settings, create_app))


if __name__ == "__main__":
    main()
