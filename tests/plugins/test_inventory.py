"""Inventory: what is reserved and what is free is always what was there."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from outboxd import Reject
from plugins.inventory import inventory, release, reserve
from plugins.inventory.messages import ReleaseStock, ReserveStock
from tests.plugins.shop import Desk

LAMPS = 5


def lamps(order_id: str, quantity: int) -> ReserveStock:
    return ReserveStock(order_id=order_id, sku="lamp", quantity=quantity)


@pytest.fixture
def desk() -> Desk:
    return Desk(inventory)


def test_the_last_piece_is_reserved_and_none_after_it(desk: Desk) -> None:
    desk.handle(reserve, lamps("o-1", LAMPS))
    with pytest.raises(Reject, match="out of stock"):
        desk.handle(reserve, lamps("o-2", 1))


def test_an_unknown_sku_is_out_of_stock(desk: Desk) -> None:
    with pytest.raises(Reject, match="out of stock"):
        desk.handle(reserve, ReserveStock(order_id="o-1", sku="yacht", quantity=1))


def test_a_quantity_below_one_is_refused_by_the_table(desk: Desk) -> None:
    with pytest.raises(desk.connection.IntegrityError):
        desk.handle(reserve, lamps("o-1", -1))
    assert desk.db.value("SELECT free FROM stock WHERE sku = 'lamp'") == LAMPS


def test_the_invariants_name_the_sku(desk: Desk) -> None:
    desk.handle(reserve, lamps("o-1", 2))
    desk.connection.execute("UPDATE stock SET free = 4 WHERE sku = 'lamp'")
    found = [s for stated in inventory.invariants for s in stated.fn(desk.db)]
    assert found == ["lamp: 2 reserved + 4 free, of 5"]


class Shelf(RuleBasedStateMachine):
    """Reserves and releases lamps in any order, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(inventory)
        self.held: dict[str, int] = {}

    def teardown(self) -> None:
        self.desk.connection.close()

    @rule(order=st.sampled_from("abcd"), quantity=st.integers(1, 4))
    def reserve(self, order: str, quantity: int) -> None:
        if order in self.held:  # a reservation's lane holds one ReserveStock
            return
        if quantity + sum(self.held.values()) > LAMPS:
            with pytest.raises(Reject):
                self.desk.handle(reserve, lamps(order, quantity))
        else:
            self.desk.handle(reserve, lamps(order, quantity))
            self.held[order] = quantity

    @rule(order=st.sampled_from("abcd"))
    def release(self, order: str) -> None:
        self.desk.handle(release, ReleaseStock(order_id=order))
        self.held.pop(order, None)

    @invariant()
    def the_shelf_is_right(self) -> None:
        free = self.desk.db.value("SELECT free FROM stock WHERE sku = 'lamp'")
        assert free == LAMPS - sum(self.held.values())

    @invariant()
    def the_stated_invariants_hold(self) -> None:
        assert not [s for stated in inventory.invariants for s in stated.fn(self.desk.db)]


TestShelf = Shelf.TestCase
TestShelf.settings = settings(deadline=None, max_examples=50)
