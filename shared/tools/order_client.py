"""A client of the order API, for the command line and the demonstration."""

import re
import secrets
import time
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpx

from shared.contract.errors import first_line
from shared.contract.messages import ID_PATTERN
from shared.tools.proxies import trusts_environment
from shared.tools.tool_error import ToolError


class ApiError(ToolError):
    """The order API is not there or refuses; the message is one sentence."""


def check_port(url: str) -> None:
    """Raise ValueError for a port that there is not: httpx tells of it as it connects, and not as of an address."""
    _ = urlsplit(url).port


def key_headers(api_key: str | None) -> dict[bytes, bytes]:
    """Give the header with the key, as bytes, since it need not be ASCII; raises ApiError, which does not tell the key."""
    if api_key is None:
        return {}
    if api_key != api_key.strip() or re.search(r"[\x00-\x1f\x7f]", api_key):
        raise ApiError(
            "The API key has a line break, another control character, or a space at an end: no header takes it."
        )
    return {b"X-API-Key": api_key.encode()}


class Answer(NamedTuple):
    """An answer of the order API."""

    status: int
    body: dict[str, Any]
    trace_id: str | None
    """The trace of this very request; None for a look, which is in none."""

    def require_success(self) -> dict[str, Any]:
        """Give the body; raises ApiError for a refusal."""
        if self.status >= 400:
            raise ApiError(f"The order API answered {self.status}: {self.body.get('detail')}.")
        return self.body


class OrderClient:
    """Places and reads orders."""

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 30.0) -> None:
        self._url = url
        headers = key_headers(api_key)
        try:
            check_port(url)
            self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=trusts_environment(url))
        except (ValueError, ImportError, httpx.InvalidURL) as error:  # of a proxy in the environment, too
            raise ApiError(f"The order API cannot be reached at {url}: {error}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create(self, order_id: str) -> Answer:
        """Place an order for one unit of the default SKU."""
        return self._request("POST", "/orders/create", params={"order_id": order_id})

    def submit(self, items: dict[str, int], order_id: str | None = None) -> Answer:
        """Place an order."""
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()]
        return self._request("POST", "/orders", json={"order_id": order_id, "items": lines})

    def read(self, order_id: str) -> Answer:
        """Read an order."""
        return self._request("GET", _path(order_id))

    def look(self, order_id: str) -> Answer:
        """Read an order untraced: a tool that looks again and again would bury the traces of the orders under its own."""
        unsampled = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
        return self._request("GET", _path(order_id), headers={"traceparent": unsampled})._replace(trace_id=None)

    def wait_while(self, order_id: str, status: str, timeout: float) -> Answer:
        """Read an order again and again until it has another status; raises ApiError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (answer := self.look(order_id)).body.get("status") == status:
            if time.monotonic() > deadline:
                raise ApiError(f"Order {order_id} is still {status} after {timeout:.0f} s.")
            time.sleep(0.05)
        return answer

    def _request(self, method: str, path: str, **arguments: Any) -> Answer:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise ApiError(
                f"There is no order API at {self._url} ({first_line(error)}); `make up` starts one."
            ) from error
        try:
            body = response.json()
        except ValueError as error:
            raise ApiError(
                f"{self._url} is not an order API: it answered {response.status_code} without JSON."
            ) from error
        if not isinstance(body, dict) or "status" not in body:
            raise ApiError(f"{self._url} is not an order API: it answered {response.status_code} with other JSON.")
        return Answer(response.status_code, body, response.headers.get("x-trace-id"))


def _path(order_id: str) -> str:
    """Give the path of an order; raises ApiError for what is no id, and might be the path of something else."""
    if re.fullmatch(ID_PATTERN, order_id) is None:
        raise ApiError(
            f"{order_id!r} is no order id: 1 to 64 letters, digits, '.', '_' and '-', of which the first is a letter or digit."
        )
    return f"/orders/{order_id}"
