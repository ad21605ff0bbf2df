"""Hooks of the application, which may fail and cost no message."""

import logging
from collections.abc import Callable

from aio_pika.abc import AbstractMessage
from opentelemetry.trace import Span

_log = logging.getLogger(__name__)


def call_hook(hook: Callable[[Span, AbstractMessage], None], span: Span, message: AbstractMessage) -> None:
    """Call a hook with a span that is recorded."""
    if not span.is_recording():
        return
    try:
        hook(span, message)
    except Exception:
        _log.exception("a hook of the messaging spans failed")
