"""Where telemetry goes, for services and tools alike."""

import base64

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class TelemetrySettings(BaseSettings):
    """Where telemetry goes when no OTEL_* variable says so, and what the resource says of this deployment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    openobserve_url: str | None = None
    openobserve_public_url: str | None = None
    """Where a person's browser finds OpenObserve, if that is not where the services do."""
    openobserve_org: str = "default"
    openobserve_user: str | None = None
    openobserve_password: SecretStr | None = None
    deployment_environment: str = "local"
    trust_callers_sampling: bool = True
    """Whether the sampled flag that a caller sends decides over its trace; a public edge had better decide for itself."""
    telemetry_buffer_mb: float = Field(64.0, gt=0, allow_inf_nan=False)
    """Memory for what waits while the backend is away, compressed.

    Ten minutes at 100 orders a second are 324,000 spans of 86 to 105 bytes: 34 MB, were all of them one process's.
    """

    @property
    def openobserve_headers(self) -> dict[str, str]:
        """Give the Basic authorization that OpenObserve asks for; empty without a user."""
        if self.openobserve_user is None or self.openobserve_password is None:
            return {}
        pair = f"{self.openobserve_user}:{self.openobserve_password.get_secret_value()}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def trace_url(self, trace_id: str, start_us: int, end_us: int) -> str | None:
        """Give OpenObserve's deep link to a trace, times in microseconds since the epoch; None without OpenObserve."""
        url = self.openobserve_public_url or self.openobserve_url
        if url is None:
            return None
        return (
            f"{url.rstrip('/')}/web/traces/trace-details?stream=default&trace_id={trace_id}"
            f"&from={start_us}&to={end_us}&org_identifier={self.openobserve_org}"
        )
