"""Asking a server of this machine whether it answers, as often as somebody who waits for it does."""

import ssl

import httpx

# Plain HTTP alone is asked. A client that may meet TLS reads every authority it knows first, for 20 ms of CPU a question,
# which a server that is about to start then lacks.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def status_of(url: str, within: float = 5.0) -> int | None:
    """Return the HTTP status that `url` answers with `within` so many seconds, or None where nothing answers."""
    try:
        return httpx.get(url, timeout=within, trust_env=False, verify=_NO_TLS).status_code
    except httpx.HTTPError:
        return None
