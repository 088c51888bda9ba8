"""Inventory: sets goods aside for an order, never more than there are."""

from collections.abc import Iterable

from outboxd import Db, Participant, Reject, Tx

from .messages import ReleaseStock, ReserveStock

inventory = Participant(
    "inventory",
    schema="""
    CREATE TABLE stock (
        sku     TEXT PRIMARY KEY,
        initial INTEGER NOT NULL,
        free    INTEGER NOT NULL CHECK (free >= 0)
    ) STRICT;
    CREATE TABLE reservation (
        order_id TEXT PRIMARY KEY,
        sku      TEXT NOT NULL REFERENCES stock,
        quantity INTEGER NOT NULL CHECK (quantity > 0)
    ) STRICT;
    CREATE INDEX reservation_sku ON reservation (sku);
    WITH delivered (sku, amount) AS (
        VALUES ('bowl', 1000000000), ('candle', 1000000000), ('kettle', 1000000000),
               ('mug', 1000000000), ('plate', 1000000000), ('teapot', 1000000000),
               ('lamp', 5), ('vase', 3)
    )
    INSERT INTO stock SELECT sku, amount, amount FROM delivered;
    """,
)


@inventory.handle
def reserve(tx: Tx, cmd: ReserveStock) -> None:
    """Takes from what is free, or says no."""
    taken = tx.execute(
        "UPDATE stock SET free = free - :quantity WHERE sku = :sku AND free >= :quantity",
        {"sku": cmd.sku, "quantity": cmd.quantity},
    )
    if not taken.changed:
        raise Reject("out of stock")
    tx.execute("INSERT INTO reservation VALUES (?, ?, ?)", (cmd.order_id, cmd.sku, cmd.quantity))


@inventory.handle
def release(tx: Tx, cmd: ReleaseStock) -> None:
    """Puts back exactly what was reserved, which may be nothing."""
    for sku, quantity in tx.execute(
        "DELETE FROM reservation WHERE order_id = ? RETURNING sku, quantity", (cmd.order_id,)
    ):
        tx.execute("UPDATE stock SET free = free + ? WHERE sku = ?", (quantity, sku))


@inventory.invariant("never sold below zero")
def never_below_zero(db: Db) -> Iterable[str]:
    """The table's own CHECK says it too."""
    for sku, free in db.execute("SELECT sku, free FROM stock WHERE free < 0"):
        yield f"{sku}: {free} are free"


@inventory.invariant("reserved + free = initial")
def nothing_vanishes(db: Db) -> Iterable[str]:
    """Counts the shelves."""
    for sku, initial, free, reserved in db.execute(
        "SELECT sku, initial, free, coalesce(sum(quantity), 0) AS reserved"
        " FROM stock LEFT JOIN reservation USING (sku)"
        " GROUP BY sku HAVING reserved + free <> initial"
    ):
        yield f"{sku}: {reserved} reserved + {free} free, of {initial}"
