"""The API key that guards the routes that write, where one is set."""

import secrets

from fastapi import Request
from fastapi.security import APIKeyHeader
from pydantic import SecretStr
from starlette.exceptions import HTTPException


class _RequiredKey(APIKeyHeader):
    """Lets a request pass that has the application's API key, where it has one; raises HTTPException 401."""

    async def __call__(self, request: Request) -> None:  # type: ignore[override] # nobody needs the key itself
        required: SecretStr | None = request.app.state.api_key
        if required is None:
            return
        # As the bytes that came: what is read as Latin-1 here was UTF-8 where somebody typed it.
        given = request.headers.get(self.model.name, "").encode("latin-1")
        if not secrets.compare_digest(given, required.get_secret_value().encode()):
            raise HTTPException(401, "the X-API-Key header is missing or wrong", {"WWW-Authenticate": "ApiKey"})


require_key = _RequiredKey(
    name="X-API-Key", scheme_name="APIKeyHeader", description="only where ORDER_API_KEY is set", auto_error=False
)
"""The dependency of a route that writes; open where the application has no key."""
