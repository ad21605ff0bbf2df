"""The telemetry backend that a command reads from."""

from shared.service.telemetry_settings import TelemetrySettings
from shared.tools.defaults import LOCAL_PASSWORD, LOCAL_USER


def backend_settings() -> TelemetrySettings:
    """Read from the environment where it is and who logs in; without a user it is the one that this machine's has."""
    settings = TelemetrySettings()
    if settings.openobserve_user is not None:
        return settings
    return TelemetrySettings.model_validate({"openobserve_user": LOCAL_USER, "openobserve_password": LOCAL_PASSWORD})
