"""Wrong: the stock that was reserved is never given back when the payment fails."""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, Tx

shop = Participant(
    "shop",
    schema="""
    CREATE TABLE reserved (order_id TEXT PRIMARY KEY) STRICT;
    CREATE TABLE paid (order_id TEXT PRIMARY KEY) STRICT;
    """,
)


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Reserve(Command[None], to="shop", key="order_id"):
    order_id: str


class Release(Command[None], to="shop", key="order_id"):
    order_id: str


class Pay(Command[None], to="shop", key="order_id"):
    order_id: str


class Unpay(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    await saga.call(Reserve(order_id=order.order_id))
    await saga.call(Pay(order_id=order.order_id), undo=Unpay(order_id=order.order_id))


@shop.handle
def reserve(tx: Tx, cmd: Reserve) -> None:
    tx.execute("INSERT INTO reserved VALUES (?)", (cmd.order_id,))


@shop.handle
def release(tx: Tx, cmd: Release) -> None:
    tx.execute("DELETE FROM reserved WHERE order_id = ?", (cmd.order_id,))


@shop.handle
def pay(tx: Tx, cmd: Pay) -> None:
    tx.execute("INSERT INTO paid VALUES (?)", (cmd.order_id,))


@shop.handle
def unpay(tx: Tx, cmd: Unpay) -> None:
    tx.execute("DELETE FROM paid WHERE order_id = ?", (cmd.order_id,))


@shop.invariant("what is reserved is paid", when="idle")
def paid(db: Db) -> Iterable[str]:
    for (order_id,) in db.execute("SELECT order_id FROM reserved EXCEPT SELECT order_id FROM paid"):
        yield f"order {order_id} holds stock that nobody paid"


shop.example(Place(order_id="o-1"))


async def fulfil_rightly(saga: Saga, order: Place) -> None:
    await saga.call(Reserve(order_id=order.order_id), undo=Release(order_id=order.order_id))
    await saga.call(Pay(order_id=order.order_id), undo=Unpay(order_id=order.order_id))


RIGHT = {fulfil: fulfil_rightly}
