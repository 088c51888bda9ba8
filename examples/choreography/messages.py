"""What the shop says; nobody here tells anybody else what to do."""

from outboxd import Command, Event


class Place(Command[None], to="shop", key="id"):
    """Somebody orders."""

    id: str


class Placed(Event, source="shop", key="id"):
    """Somebody has ordered."""

    id: str
