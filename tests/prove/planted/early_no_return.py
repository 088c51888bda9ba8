"""Wrong: the point of no return stands before a step that may still say no.

From there nothing is undone, so the saga can neither go on nor back.
"""

from outboxd import Command, Participant, Reject, Saga, Tx

shop = Participant("shop")
store = Participant(
    "store",
    schema="""
    CREATE TABLE stock (sku TEXT PRIMARY KEY, free INTEGER NOT NULL) STRICT;
    INSERT INTO stock VALUES ('mug', 1);
    CREATE TABLE paid (order_id TEXT PRIMARY KEY) STRICT;
    """,
)


class Place(Command[None], to="shop", key="order_id"):
    order_id: str
    sku: str


class Pay(Command[None], to="store", key="order_id"):
    order_id: str


class Unpay(Command[None], to="store", key="order_id"):
    order_id: str


class Take(Command[None], to="store", key="order_id"):
    order_id: str
    sku: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    await saga.call(Pay(order_id=order.order_id), undo=Unpay(order_id=order.order_id))
    saga.point_of_no_return()
    await saga.call(Take(order_id=order.order_id, sku=order.sku))


@store.handle
def pay(tx: Tx, cmd: Pay) -> None:
    tx.execute("INSERT INTO paid VALUES (?)", (cmd.order_id,))


@store.handle
def unpay(tx: Tx, cmd: Unpay) -> None:
    tx.execute("DELETE FROM paid WHERE order_id = ?", (cmd.order_id,))


@store.handle
def take(tx: Tx, cmd: Take) -> None:
    taken = tx.execute("UPDATE stock SET free = free - 1 WHERE sku = ? AND free > 0", (cmd.sku,))
    if not taken.changed:
        raise Reject("out of stock")


shop.example(Place(order_id="o-1", sku="mug"))


async def fulfil_rightly(saga: Saga, order: Place) -> None:
    await saga.call(Pay(order_id=order.order_id), undo=Unpay(order_id=order.order_id))
    await saga.call(Take(order_id=order.order_id, sku=order.sku))
    saga.point_of_no_return()


RIGHT = {fulfil: fulfil_rightly}
