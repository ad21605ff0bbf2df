"""What a process has set in `logging`, put back: services and commands set levels and handlers for good."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """Put handlers and levels back at the end of the context; a logger made meanwhile gets no level of its own."""
    root = logging.getLogger()
    handlers, level, levels = root.handlers[:], root.level, {logger.name: logger.level for logger in _loggers()}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        # By a call: what a logger has found out about its level before is forgotten with it.
        root.setLevel(level)
        for logger in _loggers():
            logger.setLevel(levels.get(logger.name, logging.NOTSET))


def _loggers() -> list[logging.Logger]:
    return [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
