"""Orders: the saga's steps, and what it undoes from wherever it ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from outboxd import Cancelled, Command, Rejected, TimedOut
from outboxd.errors import SagaEnd
from outboxd.instance import Returned, Unwound
from plugins.inventory.messages import ReserveStock
from plugins.orders.messages import OrderCompleted, OrderFailed, PlaceOrder
from plugins.payments.messages import AuthorizePayment, CapturePayment
from plugins.shipping.messages import ScheduleShipment
from tests.plugins.shop import Fulfilment, Shop

ORDER = PlaceOrder(
    order_id="o-1", email="ada@example.org", sku="lamp", quantity=1, cents=12_900, zone="N1"
)
COMPLETED = OrderCompleted(order_id="o-1", email="ada@example.org", shipment="C-1")


def row(shop: Shop) -> tuple[Any, ...] | None:
    return shop.desks["orders"].db.one("SELECT state, reason, shipment FROM orders")


def test_a_good_order_is_paid_reserved_shipped_and_completed(shop: Shop) -> None:
    done = Fulfilment(shop, ORDER).run()
    assert done.result == Returned(COMPLETED)
    assert done.steps == [
        "create_order",
        "AuthorizePayment",
        "ReserveStock",
        "ScheduleShipment",
        "CapturePayment",
        "complete_order",
        "OrderCompleted",
    ]
    assert row(shop) == ("completed", None, "C-1")
    assert shop.published == [COMPLETED]
    assert shop.desks["payments"].db.execute("SELECT * FROM ledger") == [("o-1", 12_900)]
    assert not shop.violations()


ENDS: list[tuple[type[Command[Any]], SagaEnd, str, list[str]]] = [
    (AuthorizePayment, Rejected("over the limit"), "over the limit", []),
    (ReserveStock, Rejected("out of stock"), "out of stock", ["VoidPayment"]),
    (ScheduleShipment, Rejected("zone ZZ"), "zone ZZ", ["ReleaseStock", "VoidPayment"]),
    (AuthorizePayment, TimedOut(), "we could not process it", ["VoidPayment"]),
    (
        ScheduleShipment,
        Cancelled(),
        "we could not process it",
        ["CancelShipment", "ReleaseStock", "VoidPayment"],
    ),
]


@pytest.mark.parametrize(("at", "error", "reason", "undone"), ENDS)
def test_whatever_ends_it_early_leaves_nothing_and_says_why(
    shop: Shop, at: type[Command[Any]], error: SagaEnd, reason: str, undone: list[str]
) -> None:
    ended = Fulfilment(shop, ORDER, {at: error}).run()
    assert isinstance(ended.result, Unwound)
    assert ended.undone == [*undone, "fail_order"]
    assert row(shop) == ("failed", reason, None)
    (envelope,) = shop.desks["orders"].sent
    assert msgspec.json.decode(envelope.data, type=OrderFailed) == OrderFailed(
        order_id="o-1", email="ada@example.org", reason=reason
    )
    assert not shop.violations()


def test_money_is_taken_only_beyond_the_point_of_no_return(shop: Shop) -> None:
    fulfilment = Fulfilment(shop, ORDER)
    before = {}
    for _ in fulfilment.walk():
        before[fulfilment.steps[-1]] = fulfilment.saga.is_forward_only
    assert before["ScheduleShipment"]  # the code has run on to its next await
    assert not before["ReserveStock"]
    assert fulfilment.steps.index(CapturePayment.__name__) > fulfilment.steps.index(
        ScheduleShipment.__name__
    )


@pytest.mark.parametrize(
    ("participant", "mistake", "sentence"),
    [
        ("orders", "UPDATE orders SET state = 'placed'", "order o-1 neither completed nor failed"),
        ("shipping", "DELETE FROM shipment", "order o-1 is completed and has 0 shipments"),
        ("orders", "UPDATE orders SET state = 'failed'", "order o-1 failed and still holds stock"),
    ],
)
def test_the_invariants_name_the_order(
    shop: Shop, participant: str, mistake: str, sentence: str
) -> None:
    Fulfilment(shop, ORDER).run()
    shop.desks[participant].connection.execute(mistake)
    assert sentence in shop.violations()
