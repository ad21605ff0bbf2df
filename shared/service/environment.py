"""The environment of a process, put right before anything else is imported: OpenTelemetry reads some of it at its import."""

import os
import sys
from pathlib import Path

from dotenv import load_dotenv

from shared.service.otel_variables import put_right


def prepare(program: str, path: Path = Path(".env")) -> list[str]:
    """Take `.env` in, where what is set already wins; put the `OTEL_*` variables right, and give what is to be said of them.

    Ends the process with exit code 2, and one sentence, where `.env` cannot be read.
    """
    try:
        load_dotenv(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        print(f"{program}: {path} cannot be read: {why}", file=sys.stderr)
        sys.exit(2)
    return put_right(os.environ)
