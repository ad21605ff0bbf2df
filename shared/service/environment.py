"""The environment of a process, put right before anything else is imported: OpenTelemetry reads some of it at its import."""

import os
import sys
from pathlib import Path

from dotenv import load_dotenv

from shared.service.otel_variables import put_right

FROM_FILES = ("AMQP_URL", "DATABASE_URL", "ORDER_API_KEY", "ALERT_WEBHOOK_URL")
"""What may be a secret, or hold one: NAME_FILE names a file that holds the value, as Docker's secrets do.

OPENOBSERVE_PASSWORD_FILE is read later, and again and again: see `TelemetrySettings`.
"""


def prepare(program: str, path: Path = Path(".env")) -> list[str]:
    """Take `.env` in, and the files that NAME_FILE names, where what is set already wins; put the `OTEL_*` variables right.

    Gives what is to be said of them. Ends the process with exit code 2, and one sentence, where a file cannot be read.
    """
    try:
        load_dotenv(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        _end(f"{program}: {path}", error)
    for name in FROM_FILES:
        file = os.environ.get(f"{name}_FILE")
        if file and not os.environ.get(name):
            try:
                os.environ[name] = Path(file).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                _end(f"{program}: {name}_FILE: {file}", error)
    return put_right(os.environ)


def _end(what: str, error: Exception) -> None:
    why = "it is not UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
    print(f"{what} cannot be read: {why}", file=sys.stderr)
    sys.exit(2)
