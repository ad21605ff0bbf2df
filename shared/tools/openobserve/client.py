"""A client of OpenObserve's API: JSON in, JSON out, and every failure one sentence."""

import time
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from shared.tools.traces.readback import ReadbackError

STREAM = "default"
"""The stream that spans go to where the exporter names none."""
_NO_SUCH_STREAM = 20002
_POLL_SECONDS = 0.5
_LONGEST_REASON = 300
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ObserveError(ReadbackError):
    """OpenObserve is not there, refuses, or is something else; the message is one sentence."""

    def __init__(self, sentence: str, code: int | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        """The HTTP status, or OpenObserve's own code where the answer holds one; None without an answer."""


class OpenObserve:
    """One organisation of one OpenObserve."""

    def __init__(self, url: str, org: str, headers: dict[str, str]) -> None:
        self.url = url.rstrip("/")
        self.org = org
        try:
            host = urlsplit(self.url).hostname
            # Loopback needs no proxy, and a proxy from the environment would not find it.
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=10.0, trust_env=host not in _LOOPBACK)
        except (ValueError, httpx.InvalidURL) as error:
            raise ObserveError(f"{url} is not an address (OPENOBSERVE_URL): {error}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def health(self) -> dict[str, Any]:
        """Ask who answers; needs no login. Raises ObserveError."""
        response = self._send("GET", "/healthz")
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_error or not isinstance(answer, dict) or answer.get("status") != "ok":
            status = response.status_code
            raise ObserveError(f"{self.url} is not OpenObserve, or not well: it answered {status} to /healthz.", status)
        return answer

    def wait_until_up(self, timeout: float) -> None:
        """Wait until it answers; raises ObserveError after `timeout` seconds, or at once where something else answers."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                answer = self.health()
            except ObserveError as error:
                is_starting = error.code is None or error.code >= 500
                if not is_starting or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                if "receiver" in answer:
                    raise ObserveError(
                        f"{self.url} is the embedded receiver, which has its own page and no dashboards."
                    )
                return

    def call(self, method: str, path: str, body: Any = None, *, version: str = "", **query: str) -> Any:
        """Call the organisation's API below `/api/{org}`, or `/api/v2/{org}` for version "v2/". Raises ObserveError."""
        full = f"/api/{version}{self.org}/{path}"
        return self._json(self._send(method, full, json=body, params=query), f"{method} {full}")

    def find(self, path: str, *, version: str = "") -> Any:
        """Read something that may not be there; None where it is not. Raises ObserveError."""
        try:
            return self.call("GET", path, version=version)
        except ObserveError as error:
            if error.code == 404:
                return None
            raise

    def ingest(self, signal: str, body: bytes) -> None:
        """Send an OTLP request of `traces` or `metrics`. Raises ObserveError."""
        path = f"/api/{self.org}/v1/{signal}"
        response = self._send("POST", path, content=body, headers={"Content-Type": "application/x-protobuf"})
        if response.is_error:
            self._json(response, f"POST {path}")

    def search(self, sql: str, start_us: int, end_us: int, size: int) -> list[dict[str, Any]]:
        """Give the rows of a query over the spans of a time range, in microseconds since the epoch. Raises ObserveError.

        There are no rows where nothing was ever ingested, and no keys in a row where a column is null. The cache is off: it
        would answer a poll with what was there before.
        """
        query = {"sql": sql, "start_time": start_us, "end_time": end_us, "from": 0, "size": size}
        try:
            answer = self.call("POST", "_search", {"query": query}, type="traces", use_cache="false")
        except ObserveError as error:
            if error.code == _NO_SUCH_STREAM:
                return []
            raise
        rows: list[dict[str, Any]] = answer["hits"]
        return rows

    def _why_no_json(self, response: httpx.Response, what: str) -> str:
        status = response.status_code
        if status == 404:
            return (
                f"OpenObserve at {self.url} has no organization {self.org!r} (OPENOBSERVE_ORG) yet: "
                "the first telemetry that its root user sends makes it."
            )
        if status == 422:
            return f"OpenObserve answered 422 to {what}: {_one_line(response.text) or 'no reason given'}."
        return f"{self.url} is not OpenObserve: it answered {status} without JSON to {what}."

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **arguments)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ObserveError(f"There is no OpenObserve at {self.url} ({str(error).rstrip('.')}).") from error

    def _json(self, response: httpx.Response, what: str) -> Any:
        if response.status_code in (401, 403):
            raise ObserveError(
                f"{self.url} refuses the user or password (OPENOBSERVE_USER, OPENOBSERVE_PASSWORD).",
                response.status_code,
            )
        try:
            answer = response.json()
        except ValueError as error:
            raise ObserveError(self._why_no_json(response, what), response.status_code) from error
        if response.is_error:
            said = answer if isinstance(answer, dict) else {}
            code = said.get("code")
            raise ObserveError(
                f"OpenObserve answered {response.status_code} to {what}: {_in_one_line(said)}.",
                code if isinstance(code, int) else response.status_code,
            )
        return answer


def _in_one_line(said: dict[str, Any]) -> str:
    return _one_line(str(said.get("message") or said.get("error") or "no reason given"))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_REASON].rstrip(".")
