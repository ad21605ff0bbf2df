"""How times, durations and outcomes are written for people."""

from datetime import UTC, datetime

from shared.tools.receiver.markup import Markup, element, fragment
from shared.tools.receiver.record import TraceSummary

_KNOWN_OUTCOMES = {"success": "success", "out_of_stock": "out of stock", "error": "error", "pending": "pending"}
_MARKS = {"success": "✓", "out_of_stock": "∅", "error": "✗", "pending": "…"}


def duration(nanoseconds: float) -> str:
    """A duration with about three digits and its unit."""
    value = nanoseconds / 1e6
    if value >= 10_000:
        return f"{value / 1e3:.1f} s"
    if value >= 1_000:
        return f"{value / 1e3:.2f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def offset(nanoseconds: int) -> str:
    """A time as seen from the start of its trace."""
    return f"{'-' if nanoseconds < 0 else '+'}{duration(abs(nanoseconds))}"


def clock(time_ns: int) -> Markup:
    """The time of day on this machine, with the whole of it as a tooltip; the date too where it is not today."""
    try:
        moment = datetime.fromtimestamp(time_ns / 1e9, UTC)
        here = moment.astimezone()
    except (OverflowError, ValueError, OSError):
        return element("span", f"{time_ns} ns")
    day = "" if here.date() == datetime.now(UTC).astimezone().date() else f"{here:%Y-%m-%d} "
    text = f"{day}{here:%H:%M:%S}.{here.microsecond // 1000:03}"
    return element("time", text, datetime=moment.isoformat(), title=f"{here:%Y-%m-%d %H:%M:%S.%f %Z}")


def time_zone() -> str:
    """The name of this machine's time zone."""
    return datetime.now(UTC).astimezone().tzname() or "local time"


def outcome(trace: TraceSummary) -> Markup | None:
    """What became of the order, or how many a group commit served, in words as well as in colour."""
    if trace.order_status is not None:
        kind = trace.order_status if trace.order_status in _KNOWN_OUTCOMES else "other"
        label = _KNOWN_OUTCOMES.get(trace.order_status, trace.order_status)
        mark = element("span", _MARKS.get(trace.order_status, "?"), aria_hidden="true")
        return element("span", mark, " ", label, class_=f"badge {kind}")
    if trace.http_status is not None:
        return element("span", f"HTTP {trace.http_status}", class_="badge other")
    if trace.links_out and trace.order_id is None:
        return element("span", f"serves {trace.links_out}", class_="badge plain", title="spans that this one links to")
    return None


def service(name: str, css_class: str) -> Markup:
    """A service with its colour."""
    return element("span", element("i", class_=f"dot {css_class}"), name, class_="service")


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def labelled(label: str, value: Markup | str) -> Markup:
    """A term and its description."""
    return fragment(element("dt", label), element("dd", value))


def fact(label: str, value: Markup | str) -> Markup:
    """A term above its description."""
    return element("div", labelled(label, value))


def copy_button(text: str, what: str) -> Markup:
    """A button that copies a text; the script makes it work and shows it."""
    return element(
        "button", "Copy", type="button", class_="copy", data_copy=text, aria_label=f"Copy {what}", hidden=True
    )
