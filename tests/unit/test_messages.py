"""The messages: they come back as they went, old readers ignore new fields, and nothing else gets through."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract.errors import MalformedMessage, UnknownVersion
from shared.contract.messages import CheckInventory, InventoryDecision, Item, OrderStatus, require_type

ids = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
checks = st.builds(
    CheckInventory,
    order_id=ids,
    items=st.lists(st.builds(Item, sku=ids, quantity=st.integers(1, 1_000_000)), min_size=1, max_size=50).map(tuple),
)
decisions = st.builds(
    InventoryDecision, order_id=ids, status=st.sampled_from(OrderStatus), reason=st.none() | st.text(max_size=200)
)


@given(checks)
def test_a_check_comes_back_as_it_went(check: CheckInventory) -> None:
    assert CheckInventory.decode(check.encode()) == check


@given(decisions)
def test_a_decision_comes_back_as_it_went(decision: InventoryDecision) -> None:
    assert InventoryDecision.decode(decision.encode()) == decision


def test_fields_of_a_later_version_are_ignored() -> None:
    body = {"order_id": "O-1", "items": [{"sku": "widget", "quantity": 1, "colour": "red"}], "priority": 9}

    assert CheckInventory.decode(json.dumps(body).encode()).order_id == "O-1"


@given(st.binary())
def test_any_bytes_decode_or_are_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert CheckInventory.decode(body).items


def test_the_error_names_the_fields_and_repeats_no_value() -> None:
    body = {"order_id": "ada@example.com", "items": [{"sku": "widget", "quantity": "many"}]}

    with pytest.raises(MalformedMessage) as caught:
        CheckInventory.decode(json.dumps(body).encode())

    assert "items.0.quantity, order_id" in str(caught.value)
    assert "ada" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("found", [None, "", "inventory.check.v2", "inventory.check", "x\n\x1b[31m" * 50])
def test_another_type_or_version_is_refused(found: str | None) -> None:
    with pytest.raises(UnknownVersion) as caught:
        require_type(found, "inventory.check.v1")

    assert str(caught.value).isprintable()
