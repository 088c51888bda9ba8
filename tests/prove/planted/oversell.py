"""Wrong: one command looks whether there is stock, another takes it. Two orders pass the look."""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Reject, Saga, Tx

shop = Participant("shop")
store = Participant(
    "store",
    schema="""
    CREATE TABLE stock (sku TEXT PRIMARY KEY, free INTEGER NOT NULL) STRICT;
    INSERT INTO stock VALUES ('mug', 1);
    """,
)


class Place(Command[None], to="shop", key="order_id"):
    order_id: str
    sku: str


class Look(Command[int], to="store", key="order_id"):
    order_id: str
    sku: str


class Take(Command[None], to="store", key="order_id"):
    order_id: str
    sku: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    if await saga.call(Look(order_id=order.order_id, sku=order.sku)) < 1:
        saga.fail("out of stock")
    await saga.call(Take(order_id=order.order_id, sku=order.sku))


@store.handle
def look(tx: Tx, cmd: Look) -> int:
    return int(tx.value("SELECT free FROM stock WHERE sku = ?", (cmd.sku,)))


@store.handle
def take(tx: Tx, cmd: Take) -> None:
    tx.execute("UPDATE stock SET free = free - 1 WHERE sku = ?", (cmd.sku,))


@store.invariant("never sold below zero")
def never_below_zero(db: Db) -> Iterable[str]:
    for sku, free in db.execute("SELECT sku, free FROM stock WHERE free < 0"):
        yield f"{sku}: {free} are free"


shop.example(Place(order_id="o-1", sku="mug"))


def take_rightly(tx: Tx, cmd: Take) -> None:
    taken = tx.execute("UPDATE stock SET free = free - 1 WHERE sku = ? AND free > 0", (cmd.sku,))
    if not taken.changed:
        raise Reject("out of stock")


RIGHT = {take: take_rightly}
