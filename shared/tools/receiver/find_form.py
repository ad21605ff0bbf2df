"""The form that narrows the list of traces down; its fields go into the address."""

from collections.abc import Iterable

from shared.telemetry.semconv import LinkReason
from shared.tools.receiver.finding import Wanted
from shared.tools.receiver.markup import Markup, element
from shared.tools.receiver.record import Shelf

_OUTCOMES = ("success", "out_of_stock", "error", "pending")


def render_find(wanted: Wanted, shelf: Shelf, services: Iterable[str]) -> Markup:
    """The form, open where something is looked for."""
    form = element(
        "form",
        _choice("Service", "service", wanted.service, services),
        _choice("Outcome", "outcome", wanted.outcome, _OUTCOMES),
        _choice("Link", "reason", wanted.reason, (reason.value for reason in LinkReason)),
        _choice("Errors", "error", wanted.error, ("yes", "no")),
        _field("Attribute", "attribute", wanted.attribute, placeholder="delivery.attempt=2", maxlength=200),
        _field("At least, ms", "min_ms", wanted.min_ms, inputmode="decimal", size=6),
        _field("From", "since", wanted.since, type="datetime-local"),
        _field("To", "until", wanted.until, type="datetime-local"),
        element("input", type="hidden", name="show", value=shelf),
        element("button", "Find", class_="primary"),
        element("a", "Clear", href=f"/?show={shelf}") if wanted else None,
        action="/",
        class_="order narrow",
    )
    return element("details", element("summary", "Narrow down"), form, class_="narrowing", open=bool(wanted))


def _choice(label: str, name: str, chosen: str, values: Iterable[str]) -> Markup:
    options = [element("option", "any", value="")]
    known = dict.fromkeys([*values, *([chosen] if chosen else [])])
    options += [element("option", value, value=value, selected=value == chosen) for value in known]
    return element("label", element("span", label), element("select", *options, name=name))


def _field(label: str, name: str, value: str, **attributes: str | int) -> Markup:
    return element("label", element("span", label), element("input", name=name, value=value, **attributes))


def open_file() -> Markup:
    """Where a file of traces is chosen, or dropped anywhere on the page; the script makes it work and shows it."""
    chooser = element("input", type="file", accept=".json,application/json", id="file", class_="unseen")
    return element("label", chooser, "Open a trace file", class_="open-file", id="open-file", hidden=True)
