"""Where the command line `orders` begins: with an environment that what it imports can read."""

from shared.service.environment import prepare


def main() -> None:
    """Run the command line."""
    prepare("orders")
    # Only now: OpenTelemetry reads the environment as it is imported.
    from shared.tools.cli import main as run

    run()


if __name__ == "__main__":
    main()
