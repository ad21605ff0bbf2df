"""Starts the order API: `order-api` or `python -m order_api`."""

import sys

from shared.service.environment import prepare


def main() -> None:
    """Run the order API until it is told to end."""
    to_say = prepare("order-api")
    # Only now: what they import reads the environment as it is imported.
    from order_api.app import create_app
    from order_api.settings import Settings
    from shared.service.process import run

    sys.exit(run("order-api", Settings, create_app, to_say))


if __name__ == "__main__":
    main()
