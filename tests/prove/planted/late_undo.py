"""Wrong: the undo of a local step is registered only after a later step, which may fail before."""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, Tx

shop = Participant("shop", schema="CREATE TABLE orders (id TEXT PRIMARY KEY, state TEXT) STRICT;")


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Pay(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    await saga.run(create, order.order_id)
    await saga.call(Pay(order_id=order.order_id))
    saga.undo(fail, order.order_id)
    await saga.run(complete, order.order_id)


def create(tx: Tx, order_id: str) -> None:
    tx.execute("INSERT INTO orders VALUES (?, 'placed')", (order_id,))


def fail(tx: Tx, order_id: str) -> None:
    tx.execute("UPDATE orders SET state = 'failed' WHERE id = ?", (order_id,))


def complete(tx: Tx, order_id: str) -> None:
    tx.execute("UPDATE orders SET state = 'completed' WHERE id = ?", (order_id,))


@shop.handle
def pay(tx: Tx, cmd: Pay) -> None:
    pass


@shop.invariant("every order ended", when="idle")
def ended(db: Db) -> Iterable[str]:
    for (order_id,) in db.execute("SELECT id FROM orders WHERE state = 'placed'"):
        yield f"order {order_id} neither completed nor failed"


shop.example(Place(order_id="o-1"))


async def fulfil_rightly(saga: Saga, order: Place) -> None:
    await saga.run(create, order.order_id)
    saga.undo(fail, order.order_id)
    await saga.call(Pay(order_id=order.order_id))
    await saga.run(complete, order.order_id)


RIGHT = {fulfil: fulfil_rightly}
