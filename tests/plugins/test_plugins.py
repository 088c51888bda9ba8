"""The five plugins together: the registry takes them, and each command has an owner."""

from __future__ import annotations

from outboxd.registry import Registry
from tests.plugins.shop import PARTICIPANTS


def test_the_registry_takes_them_without_a_warning() -> None:
    registry = Registry(PARTICIPANTS)
    assert registry.unowned() == []
    assert registry.owner("PlaceOrder") == "orders"
    assert registry.nearest("PlaceOrdr") == "PlaceOrder"


def test_notifications_subscribes_to_orders_and_nobody_else_to_anything() -> None:
    registry = Registry(PARTICIPANTS)
    found = {name: registry.subscriptions(name) for name in registry.participants}
    assert {name: subscribed for name, subscribed in found.items() if subscribed} == {
        "notifications": {"orders": "now"}
    }


def test_each_invariant_has_a_text_of_its_own() -> None:
    texts = [stated.text for participant in PARTICIPANTS for stated in participant.invariants]
    assert len(texts) == len(set(texts))
