"""Where telemetry goes, for services and tools alike."""

import base64
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.service.takes import Takes


def _check_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not value.isprintable() or {" ", "?", "#"} & set(value):
        raise ValueError("must be the address of a server, http://host:port or https://host:port")
    if parts.username is not None:
        raise ValueError("must hold no user and no password: whoever reads an order sees it")
    return value


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a regular expression ({error})") from error
    return value


Address = Annotated[
    str, AfterValidator(_check_address), Takes("`http://host:port` or `https://host:port`, with a path or none")
]
"""The address of a server over HTTP."""
Organization = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.-]{1,256}$"), Takes("letters, digits, `_`, `.` and `-`, at most 256")
]
"""An organization of OpenObserve: one word, for it becomes part of addresses."""


class TelemetrySettings(BaseSettings):
    """Where telemetry goes when no OTEL_* variable says so, and what the resource says of this deployment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True)

    openobserve_url: Address | None = None
    """Where OpenObserve is; a user and a password in it are read as those below. Without it services run untraced."""
    openobserve_public_url: Address | None = None
    """Where a person's browser finds OpenObserve, if that is not where the services do."""
    openobserve_org: Organization = "default"
    """The organization there."""
    openobserve_user: str | None = None
    """Who writes and reads there; a user and a password, or neither."""
    openobserve_password: SecretStr | None = None
    """The password of that user."""
    openobserve_password_file: Path | None = None
    """A file that holds the password instead. It is read whenever it is needed: whoever writes it may come up later."""
    deployment_environment: str = "local"
    """What telemetry names as `deployment.environment.name`."""
    trust_callers_sampling: bool = True
    """Whether the sampled flag that a caller sends decides over its trace; a public edge had better decide for itself."""
    telemetry_buffer_mb: float = Field(64.0, gt=0, allow_inf_nan=False)
    """Memory for what waits while the backend is away, compressed.

    Ten minutes at 100 orders a second are 324,000 spans of 86 to 105 bytes: 34 MB, were all of them one process's.
    """

    redact_names: Annotated[str, Field(pattern=r"^[A-Za-z0-9_., -]*$"), Takes("names, separated by commas")] = ""
    """Attributes and log fields that are masked whatever they hold, beside those that are personal by their name."""
    redact_pattern: Annotated[str, AfterValidator(_check_pattern), Takes("a regular expression")] = ""
    """What is masked in every text, beside e-mail addresses."""
    span_encoder: Literal["direct", "official"] = "direct"
    """What writes spans for their export: ours, or that of OpenTelemetry, which takes twice the time."""

    @model_validator(mode="before")
    @classmethod
    def _take_login_out(cls, values: Any) -> Any:
        """Read a login that is part of the address, where it would be shown to everybody, as the settings that are for it."""
        url = values.get("openobserve_url") if isinstance(values, dict) else None
        try:
            parts = urlsplit(url or "")
        except ValueError:
            return values
        if not parts.username or not parts.password:
            return values
        return {
            "openobserve_user": unquote(parts.username),
            "openobserve_password": unquote(parts.password),
            **values,
            "openobserve_url": urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])),
        }

    @model_validator(mode="after")
    def _have_a_whole_login(self) -> "TelemetrySettings":
        has_password = self.openobserve_password is not None or self.openobserve_password_file is not None
        if (self.openobserve_user is not None) != has_password:
            missing = "OPENOBSERVE_USER" if self.openobserve_user is None else "OPENOBSERVE_PASSWORD"
            raise ValueError(f"{missing}: a login is a user and a password, and only the other is set")
        return self

    @property
    def openobserve_headers(self) -> dict[str, str]:
        """Give the Basic authorization that OpenObserve asks for; empty without a user, or without a password yet."""
        password = self._password()
        if self.openobserve_user is None or not password:
            return {}
        pair = f"{self.openobserve_user}:{password}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def _password(self) -> str | None:
        if self.openobserve_password is not None:
            return self.openobserve_password.get_secret_value()
        if self.openobserve_password_file is None:
            return None
        try:
            return self.openobserve_password_file.read_text().strip()
        except (OSError, UnicodeError):
            return None

    def trace_url(self, trace_id: str, start_us: int, end_us: int) -> str | None:
        """Give OpenObserve's deep link to a trace, times in microseconds since the epoch; None without OpenObserve."""
        url = self.openobserve_public_url or self.openobserve_url
        if url is None:
            return None
        return trace_address(url, self.openobserve_org, trace_id, start_us, end_us)


def trace_address(url: str, org: str, trace_id: str, start_us: int, end_us: int) -> str:
    """Give the deep link to a trace in the OpenObserve at `url`, times in microseconds since the epoch."""
    return (
        f"{url.rstrip('/')}/web/traces/trace-details?stream=default&trace_id={trace_id}"
        f"&from={start_us}&to={end_us}&org_identifier={org}"
    )
