"""The load that every system gets: by `wrk` where it is installed, else by a generator in Python; never a mix."""

from collections.abc import Sequence

from benchmarks import python_load, wrk
from benchmarks.load_result import Result

WARM_UP_SECONDS = 3.0


def generator() -> str:
    """Name what generates the load here."""
    return wrk.version() if wrk.is_installed() else "a generator in Python, which takes CPU from what it measures"


def run(urls: Sequence[str], connections: int, seconds: float, rate: float | None = None) -> Result:
    """Load `urls` for some seconds over some connections, at most at `rate` orders a second over all of them."""
    chosen = wrk.run if wrk.is_installed() else python_load.run
    return chosen(urls, connections, seconds, rate)


def warm_up(urls: Sequence[str], connections: int, seconds: float = WARM_UP_SECONDS) -> None:
    """Load `urls` for as long as caches and connections take to fill."""
    run(urls, connections, seconds)
