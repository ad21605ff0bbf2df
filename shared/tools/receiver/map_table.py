"""The service map as a table: the numbers of the picture, for those who cannot see it."""

from shared.tools.receiver.markup import Markup, element
from shared.tools.receiver.service_map import DATABASE, HTTP, ServiceMap, Times
from shared.tools.receiver.wording import duration


def render_table(service_map: ServiceMap) -> Markup:
    """One line for whoever serves, sends, holds or processes; a reader that sees no picture has it all here."""
    rows = [_line(service, "serves requests", "answered in", times) for service, times in service_map.requests.items()]
    rows += [
        _line(service, f"calls {queue}", "called in", times)
        if queue.startswith((HTTP, DATABASE))
        else _line(service, f"sends to {queue}", "sent in", times)
        for (service, queue), times in service_map.sends.items()
    ]
    rows += [_line(queue, "holds messages", "in queue", times) for queue, times in service_map.waits.items()]
    rows += [
        _line(service, f"processes {queue}", "processed in", times)
        for (service, queue), times in service_map.processes.items()
    ]
    heads = [element("th", head, scope="col") for head in ("Who", "What")]
    heads += [
        element("th", head, scope="col", class_="number") for head in ("Count", "Median", "95th percentile", "Failed")
    ]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *rows))
    return element("div", table, class_="scroll")


def _line(who: str, what: str, measure: str, times: Times) -> Markup:
    return element(
        "tr",
        element("td", who),
        element("td", what),
        element("td", f"{times.count:,}", class_="number"),
        element("td", duration(times.at(0.5)), class_="number", title=measure),
        element("td", duration(times.at(0.95)), class_="number", title=measure),
        element("td", f"{times.failures:,}" if times.failures else "—", class_="number"),
    )
