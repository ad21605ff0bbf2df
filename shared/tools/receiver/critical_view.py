"""What the caller waited for, as one strip with shares."""

from collections.abc import Sequence

from shared.tools.receiver.markup import Markup, element, joined
from shared.tools.receiver.palette import Palette
from shared.tools.receiver.wording import duration
from shared.tools.traces.critical_path import Part, shares

_KNOWN = ("store", "database", "broker", "queue", "handler", "commit", "reply")


def render_critical(parts: Sequence[Part], palette: Palette) -> Markup | None:
    """The strip and, in words, the share of each; nothing for a trace without a request."""
    if not parts:
        return None
    start, whole = parts[0].start_ns, max(1, parts[-1].end_ns - parts[0].start_ns)
    boxes = [
        element(
            "rect",
            element("title", f"{part.what}: {duration(part.duration_ns)}"),
            x=f"{100 * (part.start_ns - start) / whole:.3f}%",
            width=f"{100 * part.duration_ns / whole:.3f}%",
            height="100%",
            class_=_css(part.what, palette),
        )
        for part in parts
    ]
    said = [
        element(
            "li",
            element("i", class_=f"dot {_css(what, palette)}"),
            element("span", what),
            element("b", f"{100 * spent / whole:.0f} %"),
            element("span", duration(spent), class_="quiet"),
        )
        for what, spent in sorted(shares(parts).items(), key=lambda item: -item[1])
    ]
    return element(
        "section",
        element("h2", "What the caller waited for"),
        element("svg", *boxes, class_="strip", aria_hidden="true"),
        element("ul", joined(said), class_="shares"),
        class_="critical",
    )


def _css(what: str, palette: Palette) -> str:
    return f"part-{what}" if what in _KNOWN else palette.css_class(what)
