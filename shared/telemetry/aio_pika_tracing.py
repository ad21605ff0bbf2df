"""One call that traces all of aio-pika: the official instrumentation, and around it what makes its traces whole."""

import logging
import os
from collections.abc import Collection
from typing import Any

import aio_pika.queue
from aio_pika import Exchange, Queue
from aio_pika.patterns import RPC
from aio_pika.queue import QueueIterator
from aio_pika.robust_queue import RobustQueueIterator
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from . import __version__
from .conventional_tracer import ConventionalTracer, ConventionalTracerProvider
from .destinations import DestinationNames
from .metrics import MessagingMetrics
from .patching import Patches
from .propagation import GuardedPropagator
from .semconv import MessagingNames, messaging_names
from .traced_consume import consume_inside, consume_outside
from .traced_message import traced_messages
from .traced_publish import publish_inside, publish_outside
from .traced_pulls import traced_enter, traced_exit, traced_get, traced_loop, traced_next
from .traced_rpc import TracedCalls, execute
from .tracing_options import TracingOptions, options_from
from .tracing_runtime import TracingRuntime

_SCOPE = "opentelemetry.instrumentation.aio_pika"
_MARK = "_is_traced_whole"
_log = logging.getLogger(__name__)


class AioPikaTracing(BaseInstrumentor):  # type: ignore[misc] # the SDK's instrumentation package has no types
    """Traces every publish and every delivery of a process, however it is consumed.

    `instrument()` takes `tracer_provider`, `meter_provider`, `relation`, `destination_template`, `publish_hook`,
    `consume_hook` and `settle_spans`; each is read from its variable (`tracing_options.VARIABLES`) where it is not given, and the
    providers are the global ones. The official instrumentation is set up anew where it is there already.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Name the versions of aio-pika that this is tested with."""
        return ("aio_pika >= 10.2, < 11",)

    def instrument(self, **kwargs: Any) -> None:
        """Begin; where something like this has begun already in this process, say so and change nothing."""
        if hasattr(Exchange, _MARK):
            _log.warning("aio-pika is traced already in this process: this call changes nothing")
            return
        super().instrument(**kwargs)

    def _instrument(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        **given: Any,
    ) -> None:
        options = options_from(given, os.environ)
        names = messaging_names(os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN"))
        tracer = _tracer(tracer_provider or trace.get_tracer_provider(), options, names)
        runtime = TracingRuntime(
            tracer,
            MessagingMetrics(meter_provider, names.schema_url),
            DestinationNames(names, options.destination_template),
        )
        self._patches = _patched(runtime, options)

    def _uninstrument(self, **_: Any) -> None:
        self._patches.undo()


def _tracer(provider: TracerProvider, options: TracingOptions, names: MessagingNames) -> ConventionalTracer:
    sampler = getattr(provider, "sampler", None)
    # A parent-based sampler of the SDK may be told to sample below what is not, by one of its further arguments.
    follows_parents = bool(getattr(sampler, "follows_parents", False))
    inner = provider.get_tracer(_SCOPE, __version__, schema_url=names.schema_url)
    return ConventionalTracer(inner, options, names, follows_parents=follows_parents)


def _patched(runtime: TracingRuntime, options: TracingOptions) -> Patches:
    """Wrap the client from inside to outside, with the official instrumentation between."""
    patches, official = Patches(), AioPikaInstrumentor()
    if official.is_instrumented_by_opentelemetry:
        official.uninstrument()
    _guard_propagation(patches)
    plain_consume = Queue.consume
    patches.replace(Queue, "consume", lambda plain: consume_inside(runtime, plain))
    patches.replace(Exchange, "publish", publish_inside)

    official.instrument(tracer_provider=ConventionalTracerProvider(runtime.tracer), skip_dep_check=True)
    patches.then(official.uninstrument)

    patches.replace(Queue, "consume", lambda theirs: consume_outside(runtime, plain_consume, theirs))
    patches.replace(Exchange, "publish", lambda theirs: publish_outside(runtime, theirs))
    patches.replace(Exchange, "declare", runtime.exchange_types.noting)
    patches.replace(aio_pika.queue, "IncomingMessage", lambda _: traced_messages(runtime, options))
    _patch_pulls(patches, runtime)
    _patch_calls(patches)
    setattr(Exchange, _MARK, True)
    patches.then(lambda: delattr(Exchange, _MARK))
    return patches


def _patch_pulls(patches: Patches, runtime: TracingRuntime) -> None:
    patches.replace(Queue, "get", lambda plain: traced_get(runtime, plain))
    for iterator in (QueueIterator, RobustQueueIterator):
        patches.replace(iterator, "__anext__", lambda plain: traced_next(runtime, plain))
    for pulled in (Queue, QueueIterator):
        patches.replace(pulled, "__aiter__", traced_loop)
    patches.replace(QueueIterator, "__aenter__", traced_enter)
    patches.replace(QueueIterator, "__aexit__", traced_exit)


def _patch_calls(patches: Patches) -> None:
    calls = TracedCalls()
    patches.replace(RPC, "call", calls.call)
    patches.replace(RPC, "create_future", calls.create_future)
    patches.replace(RPC, "on_result_message", calls.on_result_message)
    patches.replace(RPC, "execute", execute)


def _guard_propagation(patches: Patches) -> None:
    """Let no header of a stranger end consumption: a number as traceparent raises before the callback is called."""
    found = propagate.get_global_textmap()
    if isinstance(found, GuardedPropagator):
        return
    guarded = GuardedPropagator(found)
    propagate.set_global_textmap(guarded)

    def put_back() -> None:
        if propagate.get_global_textmap() is guarded:
            propagate.set_global_textmap(found)

    patches.then(put_back)
