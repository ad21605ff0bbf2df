"""The rules of the stock: all of an order's items, or none of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.contract.messages import Item, OrderStatus

MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say to an order; `success` takes the stock, anything else takes none."""

    status: OrderStatus
    reason: str | None = None


def decide(items: Sequence[Item], available: Mapping[str, int]) -> Ruling:
    """Decide on items against the stock levels of their SKUs; a SKU without a level is not known."""
    wanted = quantities(items)
    unknown = sorted(wanted.keys() - available.keys())
    if unknown:
        return Ruling(OrderStatus.ERROR, _reason("unknown_sku", unknown))
    short = sorted(sku for sku, quantity in wanted.items() if quantity > available[sku])
    if short:
        return Ruling(OrderStatus.OUT_OF_STOCK, _reason("insufficient_stock", short))
    return Ruling(OrderStatus.SUCCESS)


def quantities(items: Sequence[Item]) -> Counter[str]:
    """Sum the quantities of each SKU."""
    wanted: Counter[str] = Counter()
    for item in items:
        wanted[item.sku] += item.quantity
    return wanted


def _reason(code: str, skus: Sequence[str]) -> str:
    """Write a reason as `code: sku, sku`: the code is what to group by."""
    return f"{code}: {', '.join(skus)}"[:MAX_REASON]
