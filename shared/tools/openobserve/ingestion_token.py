"""The organization's ingestion token: as the password of its user it may send telemetry, and do nothing else."""

from pathlib import Path

from shared.tools.openobserve.client import ObserveError, OpenObserve
from shared.tools.openobserve.first_data import send_span, streams


def write_ingestion_token(client: OpenObserve, path: Path) -> None:
    """Write the token to a file, whole or not at all. Raises ObserveError."""
    if not streams(client, "traces"):
        # An organization exists from its first telemetry on.
        send_span(client)
    answer = client.call("GET", "passcode")
    token = answer.get("data", {}).get("passcode") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not token:
        raise ObserveError("OpenObserve gave no ingestion token.")
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(token)
        # Others than its owner read it: the services run as themselves.
        partial.chmod(0o444)
        partial.replace(path)
    except OSError as error:
        raise ObserveError(f"{path} cannot be written: {error.strerror}.") from error
