"""Trace ids in the order of their start, so that a page of a long list is read without walking through the list."""

from bisect import bisect_left, insort

Place = tuple[int, bytes]
"""Start in nanoseconds, then the trace id: no two traces share a place, so pages neither repeat nor skip one."""


class Timeline:
    """Places in a sorted list. New traces start late and old ones go early: both ends of the list are cheap."""

    def __init__(self) -> None:
        self._places: list[Place] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, place: Place) -> None:
        """Takes a place in."""
        insort(self._places, place)

    def remove(self, place: Place) -> None:
        """Takes out a place that is there."""
        del self._places[bisect_left(self._places, place)]

    def newest(self, limit: int, before: Place | None = None, since_ns: int = 0) -> list[bytes]:
        """At most `limit` ids, newest first: of those earlier than `before`, and that start at `since_ns` or later."""
        end = len(self._places) if before is None else bisect_left(self._places, before)
        begin = max(bisect_left(self._places, (since_ns, b"")) if since_ns else 0, end - limit)
        return [trace_id for _, trace_id in reversed(self._places[begin:end])]
