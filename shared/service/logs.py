"""Structured logs: over OTLP, and on the console, readable on a terminal and JSON otherwise; always with the trace."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.util.types import AnyValue

from shared.telemetry import DEFAULT_REDACTION as DEFAULT
from shared.telemetry import Redaction

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def configure(service: str, level: str = "INFO", stream: TextIO = sys.stderr, redaction: Redaction = DEFAULT) -> None:
    """Send every log record to `stream`, with the ids of the span it was written in and without personal data."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Readable(service, redaction) if stream.isatty() else _Json(service, redaction))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(int(level) if level.isdecimal() else level)
    # What they have to say of a backend that is away is said once, by the exporter that counts the losses.
    for repetitive in ("opentelemetry.sdk", "opentelemetry.exporter", "urllib3.connectionpool"):
        logging.getLogger(repetitive).setLevel(logging.CRITICAL)
    # What it has to say of a connection that was lost, we say.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
    # Their every frame, request and statement would be a line, a statement with the customer's data.
    for noisy in (
        "aiormq",
        "aio_pika",
        "uvicorn",
        "httpx",
        "httpcore",
        "aiosqlite",
        "asyncpg",
        "sqlalchemy",
        "alembic",
    ):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def send_to(provider: LoggerProvider, redaction: Redaction = DEFAULT) -> None:
    """Send every log record over OTLP too."""
    logging.getLogger().addHandler(_Otlp(provider, redaction))


class _Otlp(logging.Handler):
    """Hands log records to OpenTelemetry, which adds the trace; masked as on the console."""

    def __init__(self, provider: LoggerProvider, redaction: Redaction) -> None:
        super().__init__()
        self._provider = provider
        self._redaction = redaction

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except Exception:  # of a message whose arguments do not fit: it is reported, as by every handler, not raised
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        attributes: dict[str, AnyValue] = {
            name: self._redaction.value(name, value)
            for name, value in _extra(record).items()
            if isinstance(value, str | bool | int | float)
        }
        if record.exc_info and record.exc_info[0] is not None:
            attributes["exception.type"] = record.exc_info[0].__qualname__
            attributes["exception.stacktrace"] = self._redaction.text(
                logging.Formatter().formatException(record.exc_info)
            )
        self._provider.get_logger(record.name).emit(
            timestamp=int(record.created * 1e9),
            severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
            severity_text=record.levelname,
            body=self._redaction.text(record.getMessage()),
            attributes=attributes,
        )


_SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}


class _Json(logging.Formatter):
    def __init__(self, service: str, redaction: Redaction) -> None:
        super().__init__()
        self._service = service
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
            "logger": record.name,
            **_trace_ids(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Masked before it is JSON, whose escapes would hide an address or be torn apart with it.
        masked = {name: self._redaction.value(name, value) for name, value in line.items()}
        return json.dumps(masked, default=lambda value: self._redaction.text(str(value)))


class _Readable(logging.Formatter):
    def __init__(self, service: str, redaction: Redaction) -> None:
        super().__init__()
        self._service = service
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        extras = {**_extra(record), **_trace_ids()}.items()
        extra = "".join(f" {name}={_printable(self._redaction.value(name, value))}" for name, value in extras)
        line = f"{time} {record.levelname:<7} {self._service}  {record.getMessage()}{extra}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return self._redaction.text(line)


def _printable(value: object) -> str:
    """An id may be a stranger's, and must not steer the terminal."""
    shown = str(value)
    return shown if shown.isprintable() else repr(shown)


def _trace_ids() -> dict[str, str]:
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
