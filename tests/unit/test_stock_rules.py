"""The rules of the stock."""

from hypothesis import given
from hypothesis import strategies as st

from inventory_worker.stock import MAX_REASON, Ruling, decide
from shared.contract.messages import Item, OrderStatus

skus = st.sampled_from(["a", "b", "c", "d"])
items = st.lists(st.builds(Item, sku=skus, quantity=st.integers(1, 50)), min_size=1, max_size=8)
levels = st.dictionaries(skus, st.integers(0, 100))


def test_what_is_there_is_taken() -> None:
    assert decide([Item(sku="a", quantity=3)], {"a": 3}) == Ruling(OrderStatus.SUCCESS)


def test_the_reason_names_what_is_missing() -> None:
    wanted = [Item(sku="a", quantity=2), Item(sku="b", quantity=1), Item(sku="a", quantity=2)]

    assert decide(wanted, {"a": 3, "b": 1}) == Ruling(OrderStatus.OUT_OF_STOCK, "insufficient_stock: a")
    assert decide(wanted, {"a": 9}) == Ruling(OrderStatus.ERROR, "unknown_sku: b")


@given(items, levels)
def test_success_never_takes_more_than_there_is(wanted: list[Item], available: dict[str, int]) -> None:
    ruling = decide(wanted, available)

    totals = {sku: sum(item.quantity for item in wanted if item.sku == sku) for sku in {item.sku for item in wanted}}
    fits = all(sku in available and total <= available[sku] for sku, total in totals.items())
    assert (ruling.status is OrderStatus.SUCCESS) == fits
    assert len(ruling.reason or "") <= MAX_REASON
