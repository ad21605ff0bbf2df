"""A client of the order API, for the command line and the demonstration."""

import secrets
import time
from typing import Any, NamedTuple, Self

import httpx

from shared.tools.proxies import trusts_environment
from shared.tools.tool_error import ToolError


class ApiError(ToolError):
    """The order API is not there or refuses; the message is one sentence."""


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
        headers = {} if api_key is None else {b"X-API-Key": api_key.encode()}  # bytes: it need not be ASCII
        try:
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
        return self._request("GET", f"/orders/{order_id}")

    def look(self, order_id: str) -> Answer:
        """Read an order untraced: a tool that looks again and again would bury the traces of the orders under its own."""
        unsampled = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
        return self._request("GET", f"/orders/{order_id}", headers={"traceparent": unsampled})._replace(trace_id=None)

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
            raise ApiError(f"There is no order API at {self._url} ({error}); `make up` starts one.") from error
        try:
            body = response.json()
        except ValueError as error:
            raise ApiError(
                f"{self._url} is not an order API: it answered {response.status_code} without JSON."
            ) from error
        return Answer(response.status_code, body, response.headers.get("x-trace-id"))
