"""Writes docs/configuration.md from the settings themselves: `make docs`."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from inventory_worker.settings import Settings as WorkerSettings
from order_api.settings import Settings as ApiSettings
from shared.service.otel_variables import VARIABLES
from shared.service.takes import Takes
from shared.service.telemetry_settings import TelemetrySettings

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
READ_BY: Mapping[str, type[BaseSettings]] = {
    "order API": ApiSettings,
    "inventory worker": WorkerSettings,
    "both, and `orders`": TelemetrySettings,
}
SIGNALS = ("TRACES_", "METRICS_", "LOGS_")
OUR_DEFAULTS = {
    "OTEL_PROPAGATORS": "`tracecontext`: baggage is passed on to nobody unasked",
    "OTEL_BSP_MAX_QUEUE_SIZE": "`32768`",
    "OTEL_BSP_SCHEDULE_DELAY": "`1000`",
    "OTEL_METRIC_EXPORT_INTERVAL": "`10000`",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "`gzip`",
    "OTEL_TRACES_EXPORTER": "`otlp` where somewhere is named to send it to, else `none`",
    "OTEL_METRICS_EXPORTER": "as for traces",
    "OTEL_LOGS_EXPORTER": "as for traces",
}

HEAD = """# Configuration

This page is written from the settings themselves (`make docs`); a test compares the two.

Services and `orders` read the environment, and `.env` in the current directory, which the environment wins over. Empty is
unset.

**What happens to a wrong value.** A setting of ours that is wrong ends the start with exit code 2 and one sentence that
names it. An `OTEL_*` variable that is wrong, or that has no effect here, is named once in a warning when a service
starts, and its default counts: telemetry ends no start. What cannot be reached, a broker, a database, a backend, ends no
start either: the log and `/ready` say what is the case, and it is tried again. A port that is taken is exit code 1.

## Settings
"""

OTEL_HEAD = """
## OpenTelemetry's variables

They win over `OPENOBSERVE_*`, mean what [the
specification](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/) says, and have its
defaults but for those that are named here. `[...]` stands for nothing or for one signal, whose own variable wins.
Timeouts are milliseconds, as specified.
"""

TAIL = """
## Notes

**Kubernetes.** For a Service named `order-api` or `inventory-worker`, Kubernetes sets
`ORDER_API_PORT=tcp://10.96.0.12:8000` in every pod of its namespace: the service starts on the port at the end.

**The broker.** `AMQP_URL` takes `?heartbeat=` in seconds; for `amqps`, `?cafile=` (a private authority), `?certfile=` and
`?keyfile=` (a client certificate). A user that may not configure will do where another has declared exchange and queues,
but an order API needs to configure `order-api.replies.*`, where each instance has its reply queue. The login goes to
a management interface elsewhere only where `RABBITMQ_MANAGEMENT_URL` names it; the order API and `orders watch` look for
one by themselves on this machine alone.

**PostgreSQL.** `DATABASE_URL` (`postgres://` too) takes libpq's parameters: `sslmode`, `sslrootcert` (a file, or
`system`), `sslcert`, `sslkey`, `sslcrl`, `application_name`, `options`, `connect_timeout`, `target_session_attrs` and the
others. `channel_binding=require`, `gssencmode=require` and `require_auth` are more than the driver can do, and are
refused; `prefer` passes. Keepalives, `client_encoding` and the like have no effect, which is said. PgBouncer works with
`pool_mode = session` and `transaction`; that it is there is noticed at the first connection, and statements are then
prepared in the transaction that they are run in.

**SQLite.** The directory is made at the start; a place that cannot be written to is exit code 2.

**Proxies and certificates.** `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` count for telemetry and for
`orders`, but never on the way to this machine. `OTEL_EXPORTER_OTLP_CERTIFICATE` wins over `REQUESTS_CA_BUNDLE` and
`CURL_CA_BUNDLE`. Redirects are followed on the same host and with the method kept (307, 308); any other is a failure, and
said.

**A backend that fails.** Each signal says once where, with which status and why, and once when it is over; what was lost
is counted by reason in `orders.spans.lost`, `orders.data_points.lost` and `orders.log_records.lost`.

**A stack of one's own.** `make demo`, `make up` and `make scenarios` pass over what a shell holds for another tool: they
name the `OTEL_*` variables that would keep traces from being shown.
"""


def page() -> str:
    """Give the page."""
    return "\n".join([HEAD, *_settings(), OTEL_HEAD, *_otel(), TAIL])


def _settings() -> Iterator[str]:
    readers = defaultdict(list)
    fields: dict[str, FieldInfo] = {}
    for reader, kind in READ_BY.items():
        for name, field in kind.model_fields.items():
            readers[name].append((reader, _default(field.default)))
            fields.setdefault(name, field)
    yield "| variable | what it is | takes | default | read by |"
    yield "|---|---|---|---|---|"
    for name, field in fields.items():
        defaults = list(dict.fromkeys(default for _, default in readers[name]))
        who = " and ".join(reader for reader, _ in readers[name])
        what = " ".join((field.description or "").split("\n\n")[0].split())
        yield f"| `{name.upper()}` | {what} | {_takes(field)} | {'; '.join(defaults)} | {who} |"


def _default(value: Any) -> str:
    match value:
        case None | () | "":
            return "none"
        case SecretStr():
            raise ValueError("a secret has no default")
        case dict():
            return f"`{json.dumps(value)}`"
        case tuple():
            return f"`{','.join(f'{number:g}' for number in value)}`"
        case float():
            return f"`{value:g}`"
    return f"`{value}`"


def _takes(field: FieldInfo) -> str:
    metadata = [
        *field.metadata,
        *(part for kind in get_args(field.annotation) for part in getattr(kind, "__metadata__", ())),
    ]
    if words := next((part.words for part in metadata if isinstance(part, Takes)), None):
        return words
    bounds = (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "up to"))
    limits = [
        f"{word} {getattr(part, name):,}".replace(",", " ")
        for name, word in bounds
        for part in metadata
        if hasattr(part, name)
    ]
    if limits:
        return f"a{' whole' if field.annotation is int else ''} number {' '.join(limits)}"
    if field.annotation is bool:
        return "true or false"
    if get_origin(field.annotation) is Literal:
        return " or ".join(get_args(field.annotation))
    if Path in get_args(field.annotation):
        return "the path of a file"
    return "up to 64 letters, digits and `._-`" if any(hasattr(part, "pattern") for part in metadata) else "any text"


def _otel() -> Iterator[str]:
    without_effect = defaultdict(list)
    yield "| variable | takes | default, where it is another |"
    yield "|---|---|---|"
    for name, kind in VARIABLES.items():
        nothing, _, why = kind.takes.partition(": ")
        if nothing == "nothing":
            without_effect[why].append(f"`{name}`")
        elif not any(f"OTLP_{signal}" in name and name.replace(signal, "") in VARIABLES for signal in SIGNALS):
            shown = name.replace("OTLP_", "OTLP_[...]") if name.replace("OTLP_", "OTLP_LOGS_") in VARIABLES else name
            yield f"| `{shown}` | {kind.takes} | {OUR_DEFAULTS.get(name, '')} |"
    yield "\nWithout effect here, which is said of each that is set:\n"
    for why, names in without_effect.items():
        yield f"- {', '.join(names)}: {why}."


if __name__ == "__main__":
    PAGE.write_text(page())
