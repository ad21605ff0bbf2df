"""An index from one key to many values, which forgets a key with its last value."""

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value", bound=Hashable)


class MultiIndex(Generic[Key, Value]):
    """The values of each key in the order in which they came, each once."""

    def __init__(self) -> None:
        self._values: dict[Key, dict[Value, None]] = {}

    def __getitem__(self, key: Key) -> Collection[Value]:
        return self._values.get(key, ())

    def add(self, key: Key, value: Value) -> None:
        """Puts a value under a key."""
        self._values.setdefault(key, {})[value] = None

    def discard(self, key: Key, value: Value) -> None:
        """Takes a value out from under a key, where it is there."""
        values = self._values.get(key)
        if values is not None:
            values.pop(value, None)
            if not values:
                del self._values[key]
