"""What a span recorded, in full: opened below its row of the waterfall."""

from collections.abc import Sequence

from shared.tools.receiver.log_store import LogEntry
from shared.tools.receiver.markup import Markup, element, fragment, joined
from shared.tools.receiver.wording import clock, copy_button, duration, labelled, offset
from shared.tools.traces.model import Attributes, Event, Span

_OWN = ("order.", "inventory.", "delivery.")
_MOST_EVENTS = 100
_STACK_TRACE = "exception.stacktrace"


def render_details(span: Span, trace_start_ns: int, logs: Sequence[LogEntry] = ()) -> Markup:
    """Attributes, events, logs, resource and identity of a span."""
    sections = [_section("Attributes", _attributes(span.attributes))]
    if span.events:
        shown = [_event(event, trace_start_ns) for event in span.events[:_MOST_EVENTS]]
        if len(span.events) > _MOST_EVENTS:
            shown.append(element("p", f"and {len(span.events) - _MOST_EVENTS:,} more"))
        sections.insert(0, _section("Events", joined(shown)))
    if logs:
        lines = (labelled(entry.severity, entry.body) for entry in logs[:_MOST_EVENTS])
        sections.append(_section("Logs", element("dl", *lines)))
    identity = element(
        "dl",
        labelled("started", fragment(clock(span.start_ns), f"  {offset(span.start_ns - trace_start_ns)}")),
        labelled("duration", duration(span.duration_ns)),
        labelled("status", f"{span.status} {span.status_message}".strip()),
        labelled("span id", fragment(element("code", span.span_id), copy_button(span.span_id, "the span id"))),
        labelled("parent", element("code", span.parent_span_id or "none")),
        labelled("scope", span.scope or "none"),
    )
    sections += [_section("Span", identity), _section("Resource", _attributes(span.resource))]
    return element("div", *sections, class_="details")


def _section(title: str, body: Markup) -> Markup:
    return element("section", element("h3", title), body)


def _attributes(attributes: Attributes) -> Markup:
    if not attributes:
        return element("p", "none", class_="quiet")
    # What this system says about an order first, then the conventions.
    own_first = sorted(attributes.items(), key=lambda item: (not item[0].startswith(_OWN), item[0]))
    return element("dl", *(labelled(key, str(value)) for key, value in own_first))


def _event(event: Event, trace_start_ns: int) -> Markup:
    rest = {key: value for key, value in event.attributes.items() if key != _STACK_TRACE}
    stack = event.attributes.get(_STACK_TRACE)
    return element(
        "div",
        element("h4", event.name, " ", element("small", offset(event.time_ns - trace_start_ns))),
        _attributes(rest) if rest else None,
        element("pre", str(stack), tabindex="0", aria_label="stack trace") if stack else None,
        class_="event",
    )
