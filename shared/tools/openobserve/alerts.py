"""The alerts as data, with what OpenObserve insists on before it takes one.

From its own sources and API tests: an alert lives below `/api/v2/{org}/alerts`, has a name without spaces, is over a stream
that exists, and names at least one destination; a destination is HTTP, mail (which needs its SMTP set up) or SNS, and HTTP ones
are written with a template. The query gives rows, and the alert fires when there are as many as its trigger says; its row
template says each row with the columns in braces. Its periods are minutes. A destination on a loopback or private address is
refused when it is saved unless OpenObserve runs with `ZO_SSRF_ALLOW_LOOPBACK`, and when it fires unless it runs with
`ZO_SKIP_SSRF_CHECKS`.
"""

from dataclasses import dataclass
from typing import Any

from shared.contract.topology import DEAD_LETTERS, INVENTORY_CHECK
from shared.tools.openobserve.client import STREAM

CHANNEL = "traced-orders"
"""The name of the destination, and of its template."""
NOBODY = "http://127.0.0.1:5080/healthz"
"""Where the alerts go when no webhook is named: OpenObserve's own health page, from its own point of view. Nobody is told, but
the alerts exist, are evaluated, and show with their history in OpenObserve."""
_QUEUE = "messaging_destination_name"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: it fires for each row of its query, and says the row."""

    name: str
    description: str
    sql: str
    row: str
    minutes: int
    stream: str
    stream_type: str = "metrics"
    columns: tuple[str, ...] = ()
    """The labels that its query names, beside those that every metric has."""

    def as_stored(self) -> dict[str, Any]:
        """Give the form that OpenObserve takes, without its destinations."""
        return {
            "name": self.name,
            "stream_type": self.stream_type,
            "stream_name": self.stream,
            "is_real_time": False,
            "description": self.description,
            "query_condition": {"type": "sql", "sql": self.sql},
            "row_template": self.row,
            "trigger_condition": {
                "period": self.minutes,
                "operator": ">=",
                "threshold": 1,
                "frequency": 1,
                "frequency_type": "minutes",
                "silence": 15,
            },
        }


ALERTS = (
    # Only columns that every span has: a query over one that no span brought yet would fail. Requests and deliveries are what
    # can fail as a whole; the spans inside them would count a failure twice.
    Alert(
        "traced-orders-error-rate",
        "More than 5 % of the requests or deliveries of a service failed within 5 minutes.",
        "SELECT service_name, count(*) AS handled, sum(CASE WHEN span_status = 'ERROR' THEN 1 ELSE 0 END) AS failed "  # noqa: S608
        f"FROM \"{STREAM}\" WHERE span_kind IN ('2', '5') GROUP BY service_name "
        "HAVING sum(CASE WHEN span_status = 'ERROR' THEN 1 ELSE 0 END) * 20 > count(*)",
        "{service_name}: {failed} of {handled} failed",
        5,
        STREAM,
        "traces",
    ),
    Alert(
        "traced-orders-dead-letters",
        "There are dead letters: checks that wait for a person.",
        f'SELECT {_QUEUE} AS queue, max(value) AS letters FROM "orders_queue_ready" '  # noqa: S608
        f"WHERE {_QUEUE} = '{DEAD_LETTERS}' GROUP BY {_QUEUE} HAVING max(value) > 0",
        "{letters} in {queue}: orders dead-letters list",
        5,
        "orders_queue_ready",
        columns=(_QUEUE,),
    ),
    Alert(
        "traced-orders-oldest-pending",
        "An order has waited for its outcome for more than 60 s.",
        'SELECT service_name, max(value) AS seconds FROM "orders_pending_oldest" '
        "GROUP BY service_name HAVING max(value) > 60",
        "{service_name}: the oldest pending order is {seconds} s old",
        1,
        "orders_pending_oldest",
    ),
    Alert(
        "traced-orders-no-consumer",
        "Nobody has taken checks for two minutes.",
        f'SELECT {_QUEUE} AS queue, max(value) AS consumers FROM "orders_queue_consumers" '  # noqa: S608
        f"WHERE {_QUEUE} = '{INVENTORY_CHECK}' GROUP BY {_QUEUE} HAVING max(value) = 0",
        "{queue} has {consumers} consumers",
        2,
        "orders_queue_consumers",
        columns=(_QUEUE,),
    ),
    Alert(
        "traced-orders-spans-lost",
        "Spans were lost: what the traces do not show may have happened all the same.",
        'SELECT service_name, reason, max(value) - min(value) AS lost FROM "orders_spans_lost" '
        "GROUP BY service_name, service_instance_id, reason HAVING max(value) - min(value) > 0",
        "{service_name} lost {lost} spans: {reason}",
        5,
        "orders_spans_lost",
        columns=("reason", "service_instance_id"),
    ),
)


def destination(webhook: str | None) -> dict[str, Any]:
    """Where the alerts go."""
    return {
        "name": CHANNEL,
        "type": "http",
        "url": webhook or NOBODY,
        "method": "post" if webhook else "get",
        "template": CHANNEL,
        "skip_tls_verify": False,
        "headers": {},
    }


def template(dashboard_url: str) -> dict[str, Any]:
    """What a webhook is sent: the form that most chat systems take; OpenObserve fills in the names in braces."""
    return {
        "name": CHANNEL,
        "type": "http",
        "title": "",
        "body": f'{{"text": "{{alert_name}}: {{rows}} {dashboard_url} {{alert_url}}"}}',
    }
