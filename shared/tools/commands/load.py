"""`orders load`: bounded load with a progress bar, and a table of how long the answers took."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from shared.tools.commands.options import Api, ApiKey, AsJson, examples, read_item
from shared.tools.commands.output import new_console, print_json
from shared.tools.defaults import API_URL
from shared.tools.load_generator import Load, Plan, Sample, percentile, put_load
from shared.tools.printable import printable

EXAMPLES = examples(
    "orders load # 1000 orders, 16 at a time, for 30 s at most",
    "orders load --count 5000 --concurrency 64 widget=2",
    "orders load --rate 50 --seconds 10 # 50 orders a second",
    "orders load --count 200 --json | jq .latency_ms.p99",
)
PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}


def load(
    items: Annotated[
        list[str] | None,
        typer.Argument(help="What each orders, as SKU or SKU=QUANTITY; default: widget.", metavar="SKU[=N]..."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Orders, at most.")] = 1000,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Place no further order after this time.")] = 30.0,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Requests open at a time, at most.")] = 16,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, max=100_000, help="Orders a second; default: as fast as the answers come."),
    ] = None,
    api: Api = API_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Place many orders and show how long the answers took; ends with 1 when a request failed.

    With --rate, an order's time counts from when it was due, so that a system which falls behind cannot hide it.
    """
    plan = Plan(dict(map(read_item, items or ["widget"])), count, seconds, concurrency, rate)
    console = new_console()
    with _progress(console, is_shown=console.is_terminal and not as_json) as progress:
        task = progress.add_task("orders", total=count, failed="")
        failed = 0

        def on_sample(sample: Sample) -> None:
            nonlocal failed
            failed += sample.failed
            progress.update(task, advance=1, failed=f"{failed} failed" if failed else "")

        done = asyncio.run(put_load(api, api_key, plan, on_sample))
    if as_json:
        print_json(_as_json(done))
    else:
        _show(console, done)
    if done.failures:
        raise typer.Exit(1)


def _progress(console: Console, *, is_shown: bool) -> Progress:
    return Progress(
        TextColumn("orders"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[red]{task.fields[failed]}"),
        console=console,
        transient=True,
        disable=not is_shown,
    )


def _show(console: Console, done: Load) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("answer", no_wrap=True)
    table.add_column("orders", justify="right")
    for name in PERCENTILES:
        table.add_column(f"{name} ms", justify="right")
    for (http_status, outcome), samples in _by_answer(done).items():
        style = "red" if samples[0].failed else ""
        label = f"{http_status or 'none'} {printable(outcome)}"
        table.add_row(Text(label, style), str(len(samples)), *map(_ms, _latency(samples).values()))
    if len(_by_answer(done)) > 1:
        table.add_row("all", str(len(done.samples)), *map(_ms, _latency(done.samples).values()), style="bold")
    console.print(table)
    at = f"at {done.plan.rate:g} a second" if done.plan.rate else f"{done.plan.concurrency} at a time"
    console.print(f"\n{len(done.samples)} orders in {done.seconds:.1f} s, {at}: {done.per_second:.1f} orders/s")
    slowest = max(done.samples, key=lambda sample: sample.seconds)
    console.print(f"slowest: {slowest.order_id} ({_ms(slowest.seconds * 1000)} ms)")
    if done.failures:
        console.print(f"{done.failures} requests failed", style="red")


def _as_json(done: Load) -> dict[str, Any]:
    slowest = max(done.samples, key=lambda sample: sample.seconds)
    return {
        "orders": len(done.samples),
        "failed": done.failures,
        "seconds": done.seconds,
        "orders_per_second": done.per_second,
        "concurrency": done.plan.concurrency,
        "rate": done.plan.rate,
        "latency_ms": _latency(done.samples),
        "answers": [
            {
                "http_status": http_status,
                "outcome": outcome,
                "failed": samples[0].failed,
                "orders": len(samples),
                "latency_ms": _latency(samples),
            }
            for (http_status, outcome), samples in _by_answer(done).items()
        ],
        "slowest": {"order_id": slowest.order_id, "ms": slowest.seconds * 1000},
    }


def _by_answer(done: Load) -> dict[tuple[int | None, str], list[Sample]]:
    """Group the samples by what was answered, the most frequent answer first."""
    groups: dict[tuple[int | None, str], list[Sample]] = {}
    for sample in done.samples:
        groups.setdefault((sample.http_status, sample.outcome), []).append(sample)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _latency(samples: Sequence[Sample]) -> dict[str, float]:
    """Give the percentiles in milliseconds."""
    ordered = sorted(sample.seconds * 1000 for sample in samples)
    return {name: percentile(ordered, percent) for name, percent in PERCENTILES.items()}


def _ms(value: float) -> str:
    return f"{value:.1f}"
