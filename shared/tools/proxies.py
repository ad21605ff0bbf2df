"""Where the HTTP clients of the tools go by the proxies and authorities of the environment: not on the way to this machine."""

from urllib.parse import urlsplit

from shared.telemetry import is_loopback


def trusts_environment(url: str) -> bool:
    """Tell whether HTTP_PROXY, NO_PROXY and the like count for an address: a proxy would look for loopback on itself."""
    try:
        return not is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
