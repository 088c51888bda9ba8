"""A plugin's messages, as DESIGN.md shows them."""

import msgspec

from outboxd import Command, Event


class PaymentAuthorized(Event, source="payments", key="order_id"):
    order_id: str
    cents: int


class AuthorizePayment(Command[PaymentAuthorized], to="payments", key="order_id", timeout="30s"):
    order_id: str
    cents: int
    note: str = ""
    tags: list[str] = msgspec.field(default_factory=list)


class VoidPayment(Command[None], to="payments", key="order_id"):
    order_id: str


class Booking(msgspec.Struct, frozen=True):
    number: str


class BookCourier(Command[Booking], to="shipping", key="order_id"):
    order_id: str
    address: str


class CancelCourier(Command[None], to="shipping", key="order_id"):
    order_id: str


class OrderCompleted(Event, source="orders", key="order_id"):
    order_id: str
    number: str


class PlaceOrder(Command[OrderCompleted], to="orders", key="order_id"):
    order_id: str
    cents: int
    address: str


class Tick(Command[int], to="orders"):
    """Neither key nor fields."""


authorize = AuthorizePayment(order_id="o-1", cents=1)
full = AuthorizePayment(order_id="o-1", cents=1, note="gift", tags=["a"])
cents: int = full.cents
