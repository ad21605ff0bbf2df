"""The shelves of the list of traces: on each, the traces that belong there in the order of their start."""

from shared.tools.receiver.record import Shelf, TraceRecord
from shared.tools.receiver.timeline import Place, Timeline


class Shelves:
    """A timeline for each shelf; a trace moves as its spans arrive."""

    def __init__(self) -> None:
        self._timelines = {shelf: Timeline() for shelf in Shelf}

    def __getitem__(self, shelf: Shelf) -> Timeline:
        return self._timelines[shelf]

    def file(self, trace_id: bytes, trace: TraceRecord) -> None:
        """Puts a trace where its start and its spans say it belongs."""
        now: tuple[Place, frozenset[Shelf]] = ((trace.start_ns, trace_id), trace.shelves)
        if now != trace.filed:
            self.unfile(trace)
            for shelf in now[1]:
                self._timelines[shelf].add(now[0])
            trace.filed = now

    def unfile(self, trace: TraceRecord) -> None:
        """Takes a trace off every shelf that it is on."""
        if trace.filed is not None:
            place, shelves = trace.filed
            for shelf in shelves:
                self._timelines[shelf].remove(place)
