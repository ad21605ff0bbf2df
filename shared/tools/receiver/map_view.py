"""The service map as a picture (SVG); the table below it has the same numbers."""

from dataclasses import dataclass

from shared.tools.receiver.map_table import render_table
from shared.tools.receiver.markup import Markup, element, fragment
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.service_map import DATABASE, HTTP, ServiceMap, Times
from shared.tools.receiver.wording import counted, duration

_WIDTH, _BOX_WIDTH, _QUEUE_WIDTH = 1120, 210, 300
_QUEUE_HEIGHT, _QUEUE_STEP, _TOP, _MARGIN = 68, 140, 4, 24
_LEFT, _RIGHT = 0, _WIDTH - _BOX_WIDTH
_QUEUE_X = (_WIDTH - _QUEUE_WIDTH) // 2
_END = 22
"""Half the width of the ellipse at the end of a queue."""


@dataclass(frozen=True, slots=True)
class _Box:
    x: int
    y: float
    height: float
    right_side: bool

    def port(self, queue_y: float) -> tuple[float, float]:
        """Where the edge of a queue meets the side that faces the queues: straight across, or as near as it can be."""
        centre = queue_y + _QUEUE_HEIGHT / 2
        return (
            self.x if self.right_side else self.x + _BOX_WIDTH,
            min(max(centre, self.y + _MARGIN), self.y + self.height - _MARGIN),
        )


def render_map(service_map: ServiceMap, palette: Palette) -> Markup:
    """The picture, then the table."""
    if not service_map.destinations:
        return element(
            "p",
            "Nothing between services has been traced yet: place an order, and the map draws itself.",
            class_="empty",
        )
    return fragment(
        element("div", _picture(service_map, palette), class_="scroll map"),
        element(
            "p",
            f"Drawn from the newest {counted(service_map.traces, 'trace')}. Times are median and 95th percentile.",
            class_="quiet",
        ),
        render_table(service_map),
    )


def _picture(service_map: ServiceMap, palette: Palette) -> Markup:
    queues = service_map.destinations
    height = _TOP + _QUEUE_STEP * len(queues)
    boxes = _boxes(service_map, height)
    queue_y = {
        queue: _TOP + _QUEUE_STEP * place + (_QUEUE_STEP - _QUEUE_HEIGHT) / 2 for place, queue in enumerate(queues)
    }
    edges = []
    for (service, queue), times in service_map.sends.items():
        verb = "calls" if queue.startswith((HTTP, DATABASE)) else "sent"
        edges.append(_edge(boxes[service], queue_y[queue], verb, times, to_queue=True))
    for (service, queue), times in service_map.processes.items():
        verb = "answered" if queue.startswith(HTTP) else "processed"
        edges.append(_edge(boxes[service], queue_y[queue], verb, times, to_queue=False))
    shapes = [_service(name, box, service_map.requests.get(name), palette) for name, box in boxes.items()]
    shapes += [_queue(queue, y, service_map.waits.get(queue)) for queue, y in queue_y.items()]
    return element(
        "svg",
        element("title", "Services, and the queues, calls and databases between them"),
        element("defs", _arrow_head()),
        *edges,
        *shapes,
        viewBox=f"-2 0 {_WIDTH + 4} {height}",
        role="img",
        class_="service-map",
    )


def _boxes(service_map: ServiceMap, height: int) -> dict[str, _Box]:
    """Services that serve requests on the left, the others on the right."""
    left = list(service_map.requests) or service_map.services[:1]
    right = [service for service in service_map.services if service not in left]
    boxes = {}
    for names, x in ((left, _LEFT), (right, _RIGHT)):
        step = (height - _TOP) / max(1, len(names))
        for place, name in enumerate(names):
            boxes[name] = _Box(x, _TOP + step * place + 10, step - 20, right_side=x == _RIGHT)
    return boxes


def _edge(box: _Box, queue_y: float, verb: str, times: Times, *, to_queue: bool) -> Markup:
    queue_end = (_QUEUE_X + _QUEUE_WIDTH if box.right_side else _QUEUE_X, queue_y + _QUEUE_HEIGHT / 2)
    port = box.port(queue_y)
    (x1, y1), (x2, y2) = (port, queue_end) if to_queue else (queue_end, port)
    bend = (x2 - x1) / 2
    path = f"M{x1:.1f} {y1:.1f} C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    failures = f"✗ {times.failures:,} failed" if times.failures else None
    return element(
        "g",
        element("path", d=path, marker_end="url(#arrow)"),
        _lines(
            (x1 + x2) / 2,
            (y1 + y2) / 2 - 10,
            (f"{times.count:,} {verb}", "number"),
            (f"in {duration(times.at(0.5))}", None),
            (f"p95 {duration(times.at(0.95))}", None),
            (failures, "failed"),
            gap=14,
        ),
        class_="edge",
    )


def _service(name: str, box: _Box, requests: Times | None, palette: Palette) -> Markup:
    middle, centre = box.x + _BOX_WIDTH / 2, box.y + box.height / 2
    served: list[tuple[str | None, str | None]] = []
    if requests is not None:
        served = [
            (counted(requests.count, "request"), None),
            (f"answered in {duration(requests.at(0.5))}", None),
            (f"p95 {duration(requests.at(0.95))}", None),
        ]
    return element(
        "g",
        element("rect", x=box.x, y=box.y, width=_BOX_WIDTH, height=box.height, rx=8),
        element("rect", x=box.x, y=box.y, width=_BOX_WIDTH, height=7, rx=3.5, class_=palette.css_class(name)),
        _lines(middle, centre - 10 * len(served) + 5, (_short(name, 24), "name"), *served, gap=4),
        class_="service-box",
    )


def _lines(
    x: float, y: float, first: tuple[str | None, str | None], *more: tuple[str | None, str | None], gap: int
) -> Markup:
    """Lines of text below one another, each with its class; `gap` parts the first from the others."""
    texts = [element("text", first[0], x=x, y=y, class_=first[1])]
    shown = [line for line in more if line[0]]
    texts += [
        element("text", text, x=x, y=y + gap + 18 * place, class_=class_)
        for place, (text, class_) in enumerate(shown, 1)
    ]
    return fragment(*texts)


def _queue(name: str, y: float, wait: Times | None) -> Markup:
    x, right, middle = _QUEUE_X, _QUEUE_X + _QUEUE_WIDTH, _QUEUE_X + _QUEUE_WIDTH / 2
    bottom, half = y + _QUEUE_HEIGHT, _QUEUE_HEIGHT / 2
    is_queue = not name.startswith((HTTP, DATABASE))
    waited = "nothing taken yet" if is_queue else ""
    if wait is not None:
        waited = f"in queue {duration(wait.at(0.5))} · p95 {duration(wait.at(0.95))}"
    body = (
        f"M{x + _END} {y} H{right - _END} A{_END} {half} 0 0 1 {right - _END} {bottom} "
        f"H{x + _END} A{_END} {half} 0 0 1 {x + _END} {y} Z"
    )
    lid = f"M{right - _END} {y} A{_END} {half} 0 0 0 {right - _END} {bottom}"
    shape = fragment(element("path", d=body), element("path", d=lid, class_="lid"))
    if not is_queue:
        shape = element("path", d=f"M{x} {y} H{right} V{bottom} H{x} Z")
    return element(
        "g",
        element("title", name),
        shape,
        element("text", _short(name, 28), x=middle - _END / 2, y=y + 29, class_="name"),
        element("text", waited, x=middle - _END / 2, y=y + 49),
        class_="queue",
    )


def _arrow_head() -> Markup:
    tip = element("path", d="M0 0 L10 5 L0 10 Z", class_="tip")
    return element(
        "marker", tip, id="arrow", viewBox="0 0 10 10", refX=10, refY=5, markerWidth=9, markerHeight=9, orient="auto"
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
