"""The page of the queues: now in a table, over time in small charts, on one time axis for all."""

import re
import time
from collections.abc import Mapping, Sequence

from shared.tools.receiver.markup import Markup, element, fragment
from shared.tools.receiver.queue_history import Point, QueueHistory, QueueSeries
from shared.tools.receiver.wording import duration

SPANS = {"15": "15 min", "60": "1 h", "120": "2 h"}
CHARTS = (
    ("Depth", ("ready", "unacked"), "messages"),
    ("Rate", ("publish", "deliver", "ack", "redeliver"), "a second"),
    ("Wait in queue", ("p50", "p95"), "s"),
    ("Consumers", ("consumers",), ""),
    ("Oldest message", ("oldest",), "s"),
)
_WIDTH, _HEIGHT = 300, 70


def render_queues(history: QueueHistory, minutes: str, *, has_letters: bool) -> Markup:
    """All queues; the ones with messages first."""
    end_ns = time.time_ns()
    start_ns = end_ns - int(minutes) * 60 * 10**9
    queues = sorted(history.queues.items(), key=lambda item: (-_latest(item[1], "ready"), _in_order(item[0])))
    letters = element("a", "Dead letters", href="/queues/dead") if has_letters else None
    chosen = [
        element("a", name, href=f"/queues?minutes={each}", aria_current="page" if each == minutes else None)
        for each, name in SPANS.items()
    ]
    if not queues:
        return fragment(
            element("div", element("h1", "Queues"), letters, class_="opening"),
            element(
                "p", "No service has told of the queues yet; one of the order APIs does, every 10 s.", class_="empty"
            ),
        )
    return fragment(
        element("div", element("h1", "Queues"), letters, class_="opening"),
        element("nav", *chosen, class_="tabs", aria_label="Time"),
        element("div", _table(queues), class_="scroll"),
        *(_queue(name, series, start_ns, end_ns) for name, series in queues if _has_news(series, start_ns)),
    )


def _in_order(name: str) -> str:
    """Give what sorts 2000ms after 500ms."""
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(12), name)


def _latest(series: QueueSeries, name: str) -> float:
    line = series.lines.get(name)
    return line[-1][1] if line else 0.0


def _has_news(series: QueueSeries, start_ns: int) -> bool:
    """Tell whether anything has happened in a queue: charts of nothing are left out."""
    return any(value for name in series.lines if name != "consumers" for _, value in series.since(name, start_ns))


def _table(queues: Sequence[tuple[str, QueueSeries]]) -> Markup:
    names = ("ready", "unacked", "consumers", "publish", "ack", "p95", "oldest")
    heads = ("Ready", "At a consumer", "Consumers", "In, a second", "Acked, a second", "Wait p95", "Oldest")
    rows = [
        element(
            "tr",
            element("th", queue, scope="row"),
            *(element("td", _number(name, series), class_="number") for name in names),
        )
        for queue, series in queues
    ]
    head = element(
        "tr",
        element("th", "Queue", scope="col"),
        *(element("th", text, scope="col", class_="number") for text in heads),
    )
    return element("table", element("thead", head), element("tbody", *rows), class_="queues-now")


def _number(name: str, series: QueueSeries) -> str:
    line = series.lines.get(name)
    if not line:
        return "—"
    value = line[-1][1]
    if name in ("p50", "p95", "oldest"):
        return duration(value * 1e9)
    return f"{value:,.1f}" if name in ("publish", "ack") else f"{value:,.0f}"


def _queue(name: str, series: QueueSeries, start_ns: int, end_ns: int) -> Markup:
    charts = [
        _chart(title, {line: series.since(line, start_ns) for line in lines}, unit, start_ns, end_ns)
        for title, lines, unit in CHARTS
        if any(line in series.lines for line in lines)
    ]
    return element("section", element("h2", name), element("div", *charts, class_="charts"), class_="queue-charts")


def _chart(title: str, lines: Mapping[str, Sequence[Point]], unit: str, start_ns: int, end_ns: int) -> Markup:
    most = max((value for points in lines.values() for _, value in points), default=0.0)
    top = most or 1.0
    drawn, said = [], []
    for place, (name, points) in enumerate(lines.items()):
        if not points:
            continue
        path = " ".join(
            f"{_WIDTH * (at - start_ns) / (end_ns - start_ns):.1f},{_HEIGHT - 2 - (_HEIGHT - 6) * value / top:.1f}"
            for at, value in points
        )
        drawn.append(element("polyline", points=path, class_=f"line line-{place}"))
        now = f"{points[-1][1]:.3g}"
        peak = f"{max(value for _, value in points):.3g}"
        said.append(
            element(
                "span", element("i", class_=f"dot line-{place}"), f"{name} {now}", f" (most {peak})", class_="service"
            )
        )
    return element(
        "figure",
        element(
            "figcaption",
            element("b", title),
            f" {unit}" if unit else None,
            element("span", f"{most:.3g}", class_="top-of"),
        ),
        element(
            "svg",
            element("line", x1=0, x2=_WIDTH, y1=_HEIGHT - 1, y2=_HEIGHT - 1, class_="grid"),
            *drawn,
            viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
            preserveAspectRatio="none",
            class_="chart",
            aria_hidden="true",
        ),
        element("div", *said, class_="chart-legend"),
    )
