"""What inventory is asked."""

from outboxd import Command


class ReserveStock(Command[None], to="inventory", key="order_id"):
    """Set goods aside for an order."""

    order_id: str
    sku: str
    quantity: int


class ReleaseStock(Command[None], to="inventory", key="order_id"):
    """Put back what was set aside; the undo of ReserveStock."""

    order_id: str
