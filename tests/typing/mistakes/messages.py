"""Mistakes with messages: a type checker reports each line marked so, and no other."""

from outboxd import Command, Event
from tests.typing.correct.messages import AuthorizePayment, PaymentAuthorized

wrong_type = AuthorizePayment(order_id="o-1", cents="12")  # error
missing_field = AuthorizePayment(order_id="o-1")  # error
unknown_field = AuthorizePayment(order_id="o-1", cents=12, currency="EUR")  # error
positional = AuthorizePayment("o-1", 12)  # error
event_positional = PaymentAuthorized("o-1", 12)  # error
event_wrong_type = PaymentAuthorized(order_id=1, cents=12)  # error

good = AuthorizePayment(order_id="o-1", cents=12)
good.cents = 13  # error
wrong_read: str = good.cents  # error


class MistypedKeyword(Command[None], to="orders", kye="order_id"):  # error
    order_id: str


class NoOwner(Command[None], key="order_id"):  # error
    order_id: str


class NumberAsTimeout(Command[None], to="orders", timeout=30):  # error
    order_id: str


class NoSource(Event, key="order_id"):  # error
    order_id: str


class EventWithOwner(Event, source="orders", to="orders"):  # error
    order_id: str
