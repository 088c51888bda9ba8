"""What orders is asked, and what it announces."""

from outboxd import Command, Event


class OrderCompleted(Event, source="orders", key="order_id"):
    """The order is paid and on its way."""

    order_id: str
    email: str
    shipment: str


class OrderFailed(Event, source="orders", key="order_id"):
    """The order came to nothing, and nothing of it is left."""

    order_id: str
    email: str
    reason: str


class PlaceOrder(Command[OrderCompleted], to="orders", key="order_id"):
    """Fulfil an order: take its money, ship its goods, or neither."""

    order_id: str
    email: str
    sku: str
    quantity: int
    cents: int
    zone: str
