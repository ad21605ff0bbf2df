"""The accounts of a run: what customers were told, what the databases say, what the queues hold; none may disagree."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.contract import topology
from tests.torture.customers import ACCEPTED, Wish
from tests.torture.witness import Books, DeadLetter, items_of

EXPECTED_CODES = frozenset({200, 201, 202, 409, 503, 504, None})
"""With 504 for an order of which the database did not say whether it is stored."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold: over how many cases it was looked at, and each that violates it."""

    name: str
    looked_at: int
    violations: Sequence[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether it holds."""
        return not self.violations


@dataclass(slots=True)
class Poison:
    """What a run sent in to do harm, and what must come of it."""

    killers: list[str] = field(default_factory=list)
    """The orders whose checks must become dead letters."""
    undecodable: int = 0
    """How many messages must that nobody can decode."""
    strangers: list[str] = field(default_factory=list)
    """The orders whose checks were sent by nobody of ours."""

    @property
    def letters(self) -> Counter[str | None]:
        """Give the dead letters that there must be, by the order each is about."""
        letters: Counter[str | None] = Counter(self.killers)
        letters[None] = self.undecodable
        return letters


def check_orders(wishes: Sequence[Wish], books: Books) -> list[Check]:
    """Compare what customers saw with what was recorded."""
    by_id: dict[str, list[Wish]] = defaultdict(list)
    for wish in wishes:
        by_id[wish.order_id].append(wish)
    return [
        Check("every customer got an answer in the end", len(wishes), list(_without_answer(wishes))),
        Check("no answer was an unexpected error", len(wishes), list(_unexpected_answers(wishes))),
        Check("an accepted order is stored, as it was asked for", len(by_id), list(_lost(by_id, books))),
        Check("every order has an outcome", len(books.orders), list(_pending(books))),
        Check("an outcome, once seen, never changed", len(by_id), list(_changed(by_id, books))),
        Check("an id that was taken was refused to others", len(wishes), list(_taken_over(wishes))),
    ]


def check_stock(books: Books, initial: Mapping[str, int]) -> list[Check]:
    """Compare the stock with the orders, and the decisions of the inventory with the outcomes of the orders."""
    taken: Counter[str] = Counter()
    for order in books.orders.values():
        if order["status"] == "success":
            taken.update(items_of(order))
    wrong = [
        f"{sku}: {initial[sku]} - {taken[sku]} sold is not the {books.levels.get(sku)} left"
        for sku in initial
        if initial[sku] - taken[sku] != books.levels.get(sku)
    ]
    return [
        Check("the stock taken is what successful orders took", len(initial), wrong),
        Check("inventory and orders agree on every outcome", len(books.decisions), list(_disagreements(books))),
    ]


def check_queues(
    counts: Mapping[str, int], letters: Sequence[DeadLetter], waiting: Mapping[str, float], poison: Poison
) -> list[Check]:
    """Look for what was forgotten: a message in a queue, a dead letter, a request that waits."""
    forgotten = [f"{name}: {count}" for name, count in counts.items() if count and name != topology.DEAD_LETTERS]
    leaked = [f"{instance}: {count:.0f} waiting" for instance, count in waiting.items() if count]
    return [
        Check("no queue holds a forgotten message", len(counts), forgotten),
        Check("exactly the poison became dead letters", poison.letters.total(), list(_misburied(letters, poison))),
        Check("no request waits that nobody answers", len(waiting), leaked),
    ]


def _misburied(letters: Sequence[DeadLetter], poison: Poison) -> Iterable[str]:
    missing = +(poison.letters - Counter(letter.order_id for letter in letters))
    yield from (f"{order_id or 'undecodable'}: {count} are no dead letters" for order_id, count in missing.items())
    expected = poison.letters
    for letter in letters:
        expected[letter.order_id] -= 1
        if expected[letter.order_id] < 0:
            yield f"{letter.order_id}: {letter.why}"


def _without_answer(wishes: Iterable[Wish]) -> Iterable[str]:
    for wish in wishes:
        if not any(answer.code in {*ACCEPTED, 409} for answer in wish.answers):
            yield f"{wish.order_id}: {[answer.code for answer in wish.answers]}"
        elif wish.is_accepted and wish.answers[-1].outcome is None:
            yield f"{wish.order_id}: accepted, then no outcome: {[answer.code for answer in wish.answers]}"


def _unexpected_answers(wishes: Iterable[Wish]) -> Iterable[str]:
    for wish in wishes:
        for answer in wish.answers:
            if answer.code not in EXPECTED_CODES:
                yield f"{wish.order_id}: {answer.method} answered {answer.code}, trace {answer.trace_id}"


def _lost(by_id: Mapping[str, Sequence[Wish]], books: Books) -> Iterable[str]:
    for order_id, wishes in by_id.items():
        if not any(wish.is_accepted for wish in wishes):
            continue
        order = books.orders.get(order_id)
        if order is None:
            yield f"{order_id}: accepted, but not stored"
        elif items_of(order) != dict(wishes[0].items):
            yield f"{order_id}: {items_of(order)} is not {dict(wishes[0].items)}"


def _pending(books: Books) -> Iterable[str]:
    return (order_id for order_id, order in books.orders.items() if order["status"] == "pending")


def _changed(by_id: Mapping[str, Sequence[Wish]], books: Books) -> Iterable[str]:
    for order_id, wishes in by_id.items():
        seen = {answer.outcome for wish in wishes for answer in wish.answers if answer.outcome}
        recorded = books.orders.get(order_id)
        if recorded is not None:
            seen.add((recorded["status"], recorded["reason"]))
        if len(seen) > 1:
            yield f"{order_id}: {sorted(seen, key=str)}"


def _taken_over(wishes: Iterable[Wish]) -> Iterable[str]:
    for wish in wishes:
        codes = {answer.code for answer in wish.answers}
        if (409 in codes) != wish.is_conflict:
            yield f"{wish.order_id}: {codes} for {dict(wish.items)}"


def _disagreements(books: Books) -> Iterable[str]:
    for order_id in books.orders.keys() | books.decisions.keys():
        order, decision = books.orders.get(order_id), books.decisions.get(order_id)
        ordered = order and (order["status"], order["reason"])
        decided = decision and (decision["status"], decision["reason"])
        # A dead letter is an outcome that the inventory never decided on.
        if ordered != decided and not (decided is None and str(order and order["reason"]).startswith("dead_letter")):
            yield f"{order_id}: ordered {ordered}, decided {decided}"
