"""Methods of a library that are replaced for a while, and put back."""

import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


class Patches:
    """What was replaced, so that it can be put back in the opposite order."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put what `make` gives for the attribute that is there in its place."""
        found = vars(owner)[name]
        mine = make(found)
        setattr(owner, name, mine)

        def put_back() -> None:
            if vars(owner).get(name) is mine:
                setattr(owner, name, found)
            else:
                _log.warning("%s.%s was replaced by somebody else meanwhile: it stays as it is", owner.__name__, name)

        self._undo.append(put_back)

    def then(self, undo: Callable[[], None]) -> None:
        """Remember something else that is to be undone in its turn."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()
