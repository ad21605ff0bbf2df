"""A trace as a conversation: who asked whom, through which queue, in order of time; drawn as a sequence diagram (SVG)."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from shared.telemetry.semconv import LINK_REASON, MESSAGING_DESTINATION_NAME, MESSAGING_DESTINATION_TEMPLATE
from shared.tools.traces.model import Span
from shared.tools.traces.queue_wait import queue_waits

CALLER = "caller"
MOST_STEPS = 80
_COLUMN, _ROW, _TOP, _MARGIN = 210, 44, 64, 20
_LONGEST_NAME = 30
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b2330}.life{stroke:#dfe3e9}.who rect{fill:#f7f8fa;stroke:#586374}"
    ".step line,.step path{stroke:#586374;stroke-width:1.6;fill:none}.tip{fill:#586374}.when{fill:#586374;font-size:11px}"
    ".failed text{fill:#b3172b}.failed line{stroke:#b3172b}.back line{stroke-dasharray:5 4}"
)


class Arrow(NamedTuple):
    """One arrow."""

    at_ns: int
    source: str
    target: str
    label: str
    failed: bool = False
    is_answer: bool = False


def arrows_of(spans: Sequence[Span], linked: Sequence[Span] = ()) -> list[Arrow]:
    """Give the conversation in order of time."""
    return sorted(_arrows(spans, linked), key=lambda arrow: arrow.at_ns)


def _arrows(spans: Sequence[Span], linked: Sequence[Span]) -> Iterator[Arrow]:
    by_id = {span.span_id: span for span in spans}
    waits = queue_waits(spans)
    for span in spans:
        parent = by_id.get(span.parent_span_id or "")
        if span.kind == "SERVER":
            asker = CALLER if parent is None else parent.service
            yield Arrow(span.start_ns, asker, span.service, span.name, span.failed)
            status = span.attributes.get("http.response.status_code", "failed" if span.failed else "answer")
            yield Arrow(span.end_ns, span.service, asker, str(status), span.failed, is_answer=True)
        elif span.kind == "PRODUCER":
            yield Arrow(span.start_ns, span.service, _queue(span), span.name.partition(" ")[0], span.failed)
        elif span.kind == "CONSUMER":
            wait = waits.get(span.span_id)
            waited = f" after {wait.duration_ns / 1e6:.3g} ms" if wait is not None else ""
            yield Arrow(
                span.start_ns, _queue(span), span.service, f"{span.name.partition(' ')[0]}{waited}", span.failed
            )
        elif span.kind == "CLIENT":
            called = _called(span)
            if called is not None:
                yield Arrow(span.start_ns, span.service, called, span.name, span.failed)
    for span in linked:
        reasons = {str(link.attributes.get(LINK_REASON)) for link in span.links}
        if "batch_member" in reasons:
            yield Arrow(
                span.start_ns, span.service, _called(span) or f"{span.service} database", span.name, span.failed
            )


def _queue(span: Span) -> str:
    named = span.attributes.get(MESSAGING_DESTINATION_TEMPLATE) or span.attributes.get(MESSAGING_DESTINATION_NAME)
    return str(named or span.name.partition(" ")[2] or "queue")


def _called(span: Span) -> str | None:
    if any(key.startswith("db.") for key in span.attributes):
        return str(span.attributes.get("db.namespace") or span.attributes.get("db.system.name") or "database")
    return None


def sequence_svg(steps: Sequence[Arrow], *, standalone: bool = False) -> str:
    """Draw the first steps; `standalone` with the styles in it, for a file of its own."""
    shown = steps[:MOST_STEPS]
    if not shown:
        return ""
    names = list(dict.fromkeys(name for step in shown for name in (step.source, step.target)))
    x_of = {name: _MARGIN + _COLUMN * place + _COLUMN // 2 for place, name in enumerate(names)}
    width, height = _MARGIN * 2 + _COLUMN * len(names), _TOP + _ROW * (len(shown) + 1)
    start = shown[0].at_ns
    parts = [_who(name, x, height) for name, x in x_of.items()]
    parts += [
        _arrow(step, x_of[step.source], x_of[step.target], _TOP + _ROW * (row + 1), (step.at_ns - start) / 1e6)
        for row, step in enumerate(shown)
    ]
    style = f"<style>{_STYLE}</style><rect width='100%' height='100%' fill='#fff'/>" if standalone else ""
    left_out = f", the first {MOST_STEPS} of {len(steps)} steps" if len(steps) > MOST_STEPS else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" class="sequence"><title>Sequence diagram{left_out}</title>{style}'
        '<defs><marker id="seq-tip" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L10 5 L0 10 Z" class="tip"/></marker></defs>' + "".join(parts) + "</svg>"
    )


def _who(name: str, x: int, height: int) -> str:
    half = _COLUMN // 2 - 8
    return (
        f'<g class="who"><title>{escape(name)}</title><line x1="{x}" x2="{x}" y1="40" y2="{height}" class="life"/>'
        f'<rect x="{x - half}" y="8" width="{half * 2}" height="32" rx="6"/>'
        f'<text x="{x}" y="29" text-anchor="middle">{escape(_short(name, _LONGEST_NAME - 4))}</text></g>'
    )


def _arrow(step: Arrow, x1: int, x2: int, y: int, at_ms: float) -> str:
    classes = f"step{' failed' if step.failed else ''}{' back' if step.is_answer else ''}"
    middle = (x1 + x2) / 2 if x1 != x2 else x1 + 45
    line = (
        f'<line x1="{x1}" x2="{x2}" y1="{y}" y2="{y}" marker-end="url(#seq-tip)"/>'
        if x1 != x2
        else f'<path d="M{x1} {y - 8} h30 v16 h-30" marker-end="url(#seq-tip)"/>'
    )
    mark = "✗ " if step.failed else ""
    return (
        f'<g class="{classes}"><title>{escape(step.label)}</title>{line}'
        f'<text x="{middle}" y="{y - 7}" text-anchor="middle">{mark}{escape(_short(step.label, _LONGEST_NAME))}</text>'
        f'<text x="2" y="{y + 4}" class="when">{at_ms:.2f}</text></g>'
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
