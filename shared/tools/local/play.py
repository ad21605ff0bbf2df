"""Plays every scenario on a stack of its own, and shows the traces that they leave."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from shared.tools.local.scenario import Exhibit, Scenario, replay_of
from shared.tools.local.scenarios import SCENARIOS
from shared.tools.local.stack import StackError, running_stack
from shared.tools.local.surroundings import PLAIN_SETTINGS
from shared.tools.local.troubles import REPLY_TIMEOUT, Lab, Skipped
from shared.tools.order_client import OrderClient
from shared.tools.printable import printable
from shared.tools.traces.model import AttributeValue
from shared.tools.traces.readback import Reader, Trace
from shared.tools.traces.waterfall import waterfall

TRACE_SECONDS = 20.0
"""How long the trace of a scenario may take to show what it should."""


def play_all(console: Console, *, keep: bool) -> None:
    """Play every scenario, and with `keep` leave the stack running until Ctrl-C; raises StackError, BrokerError."""
    started = time.monotonic()
    with running_stack(
        lambda line: console.print(line, style="dim", markup=False),
        usual_ports=keep,
        overrides={**PLAIN_SETTINGS, "REPLY_TIMEOUT": str(REPLY_TIMEOUT)},
    ) as stack:
        with OrderClient(stack.api.url, stack.api_key) as client:
            lab = Lab(stack, client, lambda line: console.print(f"  {line}", style="dim", soft_wrap=True))
            played = [
                _play(console, lab, f"{number}. {scenario.title}", scenario)
                for number, scenario in enumerate(SCENARIOS, start=1)
            ]
        took = time.monotonic() - started
        console.print(f"\n{sum(played)} of {len(SCENARIOS)} scenarios played in {took:.0f} s.")
        if keep:
            console.print(f"Their traces are in {stack.traces_url or stack.endpoint}; Ctrl-C ends it all.")
            stack.run_until_one_ends()


def _play(console: Console, lab: Lab, title: str, scenario: Scenario) -> bool:
    """Play a scenario and show its trace; tells whether it was possible."""
    console.print(f"\n[bold]{title}[/]\n{scenario.happens}")
    try:
        trace_id = scenario.play(lab)
    except Skipped as reason:
        console.print(str(reason), style="yellow")
        return False
    console.print(f"[bold]Look at:[/] {scenario.look_at}\n")
    if lab.stack.traces_url is None:
        console.print(f"trace {trace_id}, sent to {lab.stack.endpoint}", soft_wrap=True)
        return True
    # Read back before the next one begins, whose fault may cost the spans that have not left yet.
    with lab.stack.open_reader() as reader:
        exhibits = [(trace_id, scenario.exhibit)]
        for shown_id, exhibit in exhibits:
            trace = _wait_for(reader, shown_id, exhibit, scenario.title)
            _show(console, trace, exhibit)
            if not lab.stack.is_embedded:
                console.print(f"  {reader.address(trace)}", soft_wrap=True)
            replay_id = replay_of(trace)
            if exhibit is scenario.exhibit and scenario.replay is not None and replay_id is not None:
                console.print()
                exhibits.append((replay_id, scenario.replay))
    return True


def _wait_for(reader: Reader, trace_id: str, exhibit: Exhibit, title: str) -> Trace:
    found = reader.wait_for(trace_id, exhibit.is_shown_by, TRACE_SECONDS)
    if found is None or not exhibit.is_shown_by(found):
        raise StackError(f"{title}: the trace {trace_id} does not show within {TRACE_SECONDS:.0f} s what it should.")
    return found


def _show(console: Console, trace: Trace, exhibit: Exhibit) -> None:
    """Draw the trace, and below it what a waterfall does not show: events, and the attributes that tell the story."""
    console.print(waterfall(trace.spans, trace.linked))
    for span in sorted(trace.spans, key=lambda span: span.start_ns):
        for event in span.events:
            if event.name != "exception":
                _tell(console, f"{span.name}, event {event.name!r}", event.attributes.items())
    for span in exhibit.spans_of(trace):
        _tell(console, span.name, ((name, span.attributes[name]) for name in exhibit.tells if name in span.attributes))


def _tell(console: Console, what: str, attributes: Iterable[tuple[str, AttributeValue]]) -> None:
    told = ", ".join(f"{name} {_shown(value)}" for name, value in attributes)
    console.print(Text(f"  {printable(what)}\n    {printable(told)}"), soft_wrap=True)


def _shown(value: AttributeValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
