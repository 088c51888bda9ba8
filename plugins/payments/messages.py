"""What payments is asked, and what it answers and announces."""

from outboxd import Command, Event


class PaymentAuthorized(Event, source="payments", key="order_id"):
    """The customer's money is held for an order."""

    order_id: str
    cents: int


class AuthorizePayment(Command[PaymentAuthorized], to="payments", key="order_id", timeout="30s"):
    """Hold the money for an order."""

    order_id: str
    cents: int


class VoidPayment(Command[None], to="payments", key="order_id"):
    """Give back what was held; the undo of AuthorizePayment."""

    order_id: str


class CapturePayment(Command[None], to="payments", key="order_id"):
    """Take the money that was held."""

    order_id: str
