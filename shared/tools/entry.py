"""Where the command line `orders` begins: with an environment that what it imports can read, and an end that cleans up."""

import signal
import sys

from shared.service.environment import prepare


def main() -> None:
    """Run the command line."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    prepare("orders")
    # Only now: OpenTelemetry reads the environment as it is imported.
    from shared.tools.cli import main as run

    run()


def _end(number: int, _: object) -> None:
    """End as after Ctrl-C, with what was started and the files of it: a process that dies of a signal cleans nothing up."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
