"""The receiver: books each order once."""

from outboxd import Command, Participant, Tx

ledger = Participant(
    "ledger",
    schema="CREATE TABLE entry (order_id TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT",
)


class BookOrder(Command[None], to="ledger", key="order_id"):
    """What the shop sends."""

    order_id: str
    cents: int


@ledger.handle
def book(tx: Tx, cmd: BookOrder) -> None:
    """An order that is booked is left as it is."""
    tx.execute("INSERT OR IGNORE INTO entry VALUES (?, ?)", (cmd.order_id, cmd.cents))
