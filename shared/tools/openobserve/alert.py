"""The alert on the error rate as data, with what OpenObserve insists on before it takes an alert.

From its own sources and API tests: an alert lives below `/api/v2/{org}/alerts`, has a name without spaces, is over a stream
that exists, and names at least one destination; a destination is HTTP, mail (which needs its SMTP set up) or SNS, and HTTP ones
are written with a template. The query gives rows, and the alert fires when there are as many as its trigger says. Its periods
are minutes. A destination on a loopback or private address is refused unless OpenObserve runs with `ZO_SSRF_ALLOW_LOOPBACK`.
"""

from typing import Any

from shared.tools.openobserve.client import STREAM

NAME = "traced-orders-error-rate"
CHANNEL = "traced-orders"
"""The name of the destination, and of its template."""
NOBODY = "http://127.0.0.1:5080/healthz"
"""Where the alert goes when no webhook is named: OpenObserve's own health page, from its own point of view. Nobody is told, but
the alert exists, is evaluated, and shows with its history in OpenObserve."""

# Only columns that every span has: a query over one that no span brought yet would fail. Requests and deliveries are what
# can fail as a whole; the spans inside them would count a failure twice.
_SQL = (
    "SELECT service_name, count(*) AS handled, sum(CASE WHEN span_status = 'ERROR' THEN 1 ELSE 0 END) AS failed "  # noqa: S608
    f"FROM \"{STREAM}\" WHERE span_kind IN ('2', '5') GROUP BY service_name "
    "HAVING sum(CASE WHEN span_status = 'ERROR' THEN 1 ELSE 0 END) * 20 > count(*)"
)


def alert() -> dict[str, Any]:
    """More than one in twenty requests or deliveries of a service failed within five minutes."""
    return {
        "name": NAME,
        "stream_type": "traces",
        "stream_name": STREAM,
        "is_real_time": False,
        "description": "More than 5 % of the requests or deliveries of a service failed within 5 minutes.",
        "query_condition": {"type": "sql", "sql": _SQL},
        "trigger_condition": {
            "period": 5,
            "operator": ">=",
            "threshold": 1,
            "frequency": 1,
            "frequency_type": "minutes",
            "silence": 15,
        },
    }


def destination(webhook: str | None) -> dict[str, Any]:
    """Where the alert goes."""
    return {
        "name": CHANNEL,
        "type": "http",
        "url": webhook or NOBODY,
        "method": "post" if webhook else "get",
        "template": CHANNEL,
        "skip_tls_verify": False,
        "headers": {},
    }


def template() -> dict[str, Any]:
    """What a webhook is sent: the form that most chat systems take; OpenObserve fills in the names in braces."""
    return {
        "name": CHANNEL,
        "type": "http",
        "title": "",
        "body": '{"text": "{alert_name}: more than 5 % of the requests or deliveries of a service failed. {alert_url}"}',
    }
