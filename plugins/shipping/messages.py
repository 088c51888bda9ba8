"""What shipping is asked, and what it answers."""

import msgspec

from outboxd import Command


class Booking(msgspec.Struct, frozen=True):
    """A booked courier; ``number`` is the courier's."""

    number: str


class ScheduleShipment(Command[Booking], to="shipping", key="order_id"):
    """Book a courier for an order."""

    order_id: str
    zone: str


class CancelShipment(Command[None], to="shipping", key="order_id"):
    """Send the courier away; the undo of ScheduleShipment."""

    order_id: str
