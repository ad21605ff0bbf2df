"""Starts and ends telemetry once for each environment on standard input, in one process, and writes as JSON what went wrong."""

import json
import logging
import os
import sys
import time
import traceback
from typing import Any

from shared.service.otel_variables import put_right

LONGEST_SECONDS = 30.0
"""For one start and end, with a backend that refuses connections: a hundred times what it takes where nothing else runs."""


def _start_and_end() -> None:
    # Here, as in a service: after the environment was put right for the first time.
    from opentelemetry import propagate, trace
    from opentelemetry.sdk.trace import TracerProvider

    from shared.service.providers import start
    from shared.service.telemetry_settings import TelemetrySettings

    telemetry = start("sweep", TelemetrySettings())
    tracer = (
        next((signal.provider for signal in telemetry.signals if isinstance(signal.provider, TracerProvider)), None)
        or trace.NoOpTracerProvider()
    )
    link = trace.Link(trace.SpanContext(1, 2, is_remote=True), {"a": "b"})
    with tracer.get_tracer("sweep").start_as_current_span("step", links=[link]) as span:
        span.set_attribute("text", "x" * 100)
        span.add_event("happened", {"a": "b"})
        logging.getLogger("sweep").error("a record", extra={"order_id": "O-1"})
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        if propagate.extract(carrier) is None:
            raise AssertionError("no context was extracted")
    telemetry.shutdown()


def main() -> None:
    """Run every case."""
    wrong = {}
    before = dict(os.environ)
    root = logging.getLogger()
    for case in json.load(sys.stdin):
        os.environ.clear()
        os.environ.update(before | case)
        put_right(os.environ)
        started = time.monotonic()
        try:
            _start_and_end()
        except BaseException:
            wrong[json.dumps(case)] = traceback.format_exc()
        root.handlers.clear()
        took: Any = time.monotonic() - started
        if took > LONGEST_SECONDS:
            wrong[json.dumps(case)] = f"took {took:.1f} s"
    print(json.dumps(wrong))  # on a line of its own: spans may have gone to the console before


if __name__ == "__main__":
    main()
