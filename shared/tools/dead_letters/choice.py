"""Which dead letters a person means by the ids, or the beginnings of ids, that were typed: each means one, or nothing is done."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.tools.dead_letters.letter_queue import DeadLetterError, Held
from shared.tools.printable import printable

_TOLD = 3
"""Ids of several that are told."""


@dataclass(slots=True)
class _Meant:
    """Letters that one text may mean: by id the oldest of each digest, and how many there are."""

    oldest: dict[str, dict[str, Held]] = field(default_factory=dict)
    letters: int = 0

    def add(self, held: Held) -> None:
        self.letters += 1
        # Where there are several, they are only counted and some named: the bodies of all would be too many to hold.
        if len(self.oldest) <= _TOLD or held.letter.id in self.oldest:
            of_id = self.oldest.setdefault(held.letter.id, {})
            if len(of_id) <= _TOLD:
                of_id.setdefault(held.letter.digest, held)


class Choice:
    """Looks at every letter, and then says which are meant.

    Copies of one letter, alike to the last byte, are one: the oldest is meant, and the others stay.
    """

    def __init__(self, typed: Sequence[str]) -> None:
        self._whole = {text: _Meant() for text in typed}
        self._beginning = {text: _Meant() for text in typed}

    def see(self, held: Held) -> None:
        """Look at a letter."""
        letter = held.letter
        for text in self._whole:
            if text in (letter.id, letter.digest):
                self._whole[text].add(held)
            elif letter.id.startswith(text):
                self._beginning[text].add(held)

    def meant(self) -> list[Held]:
        """Give the letters that are meant, each once; raises DeadLetterError where a text means none, or several."""
        found = {id(held): held for held in map(self._one, self._whole)}
        return list(found.values())

    def _one(self, text: str) -> Held:
        meant = self._whole[text] if self._whole[text].letters else self._beginning[text]
        shown = printable(text)
        if not meant.letters:
            raise DeadLetterError(f"There is no dead letter {shown}.")
        if len(meant.oldest) > 1:
            ids = _some(list(meant.oldest))
            raise DeadLetterError(
                f"{shown} is the beginning of the ids of {meant.letters} dead letters ({ids}): type more."
            )
        ((letter_id, by_digest),) = meant.oldest.items()
        if len(by_digest) > 1:
            digests = _some(list(by_digest))
            raise DeadLetterError(
                f"{meant.letters} dead letters have the id {letter_id}: name one by its digest ({digests})."
            )
        (held,) = by_digest.values()
        return held


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_TOLD]) + (", ..." if len(texts) > _TOLD else "")
