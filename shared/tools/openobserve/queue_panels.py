"""What the charts of the queues ask; see `panels` for where the names come from."""

from shared.tools.openobserve.panels import BLUE, GREEN, GREY, PURPLE, QUEUE, RED, Panel

_COLOURS = {
    "inventory.check": BLUE,
    "inventory.check.dead": RED,
    "order-api.replies.shared": PURPLE,
    "order-api.replies.{instance}": GREEN,
}


def _by_queue(metric: str) -> dict[str, str]:
    return {f"{{{QUEUE}}}": f"max by ({QUEUE}) ({metric})"}


QUEUES = (
    Panel(
        "ready",
        "Ready (messages)",
        "Messages that wait in each queue: for a worker, for their next attempt, for a person.",
        _by_queue("orders_queue_ready"),
        "messages",
        _COLOURS,
    ),
    Panel(
        "unacked",
        "Delivered and not settled (messages)",
        "Messages that are at a consumer.",
        _by_queue("orders_queue_unacked"),
        "messages",
        _COLOURS,
    ),
    Panel(
        "message-rates",
        "Rates of the check queue (messages/s)",
        "Published, delivered, acknowledged and redelivered by the broker's own count. More in than out: the queue grows.",
        {
            "{operation}": f'sum by (operation) (rate(orders_queue_messages{{{QUEUE}="inventory.check"}}[1m]))',
        },
        "messages/s",
        {"publish": BLUE, "deliver": PURPLE, "ack": GREEN, "redeliver": RED},
    ),
    Panel(
        "consumers",
        "Consumers",
        "Consumers of each queue; the dead letters have none, by design.",
        _by_queue("orders_queue_consumers"),
        "consumers",
        _COLOURS,
    ),
    Panel(
        "oldest",
        "Oldest message (s)",
        "Age of the first message in line. The broker tells it of classic queues only, never of quorum queues: no line, no news.",
        _by_queue("orders_queue_oldest"),
        "seconds",
        _COLOURS,
    ),
    Panel(
        "pending",
        "Pending orders",
        "Orders without an outcome, by the order API's database.",
        {"pending": "max(orders_pending)"},
        "orders",
        {"pending": BLUE},
    ),
    Panel(
        "oldest-pending",
        "Oldest pending order (s)",
        "Age of the order that has waited longest for its outcome.",
        {"oldest": "max(orders_pending_oldest)"},
        "seconds",
        {"oldest": RED},
    ),
    Panel(
        "connections",
        "Connections to the broker (1 up, 0 down)",
        "The connections of each service, and whether the broker blocks one: short of memory or disk.",
        {
            "{service_name} {connection}": "min by (service_name, connection) (orders_connection_up)",
            "{service_name} {connection} blocked": "max by (service_name, connection) (orders_connection_blocked)",
        },
        "connections",
        {
            f"{service} {what}{end}": colour
            for service, what, colour in (
                ("order-api", "publishes", BLUE),
                ("order-api", "consumes", GREEN),
                ("inventory-worker", "publishes", PURPLE),
                ("inventory-worker", "consumes", GREY),
            )
            for end, colour in (("", colour), (" blocked", RED))
        },
    ),
)
