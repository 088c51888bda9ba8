"""Wrong: a parcel is packed on the command of the saga, and again on the event that says the same.

Each message is handled once, but there are two of them.
"""

from collections.abc import Iterable

from outboxd import Command, Db, Event, Participant, Saga, Tx

shop = Participant("shop")
depot = Participant("depot", schema="CREATE TABLE parcel (order_id TEXT NOT NULL) STRICT;")


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Paid(Event, source="shop", key="order_id"):
    order_id: str


class Pack(Command[None], to="depot", key="order_id"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    await saga.publish(Paid(order_id=order.order_id))
    await saga.call(Pack(order_id=order.order_id))


@depot.handle
def pack(tx: Tx, cmd: Pack) -> None:
    tx.execute("INSERT INTO parcel VALUES (?)", (cmd.order_id,))


@depot.handle
def on_paid(tx: Tx, event: Paid) -> None:
    tx.execute("INSERT INTO parcel VALUES (?)", (event.order_id,))


@depot.invariant("an order is one parcel")
def one_parcel(db: Db) -> Iterable[str]:
    for order_id, count in db.execute(
        "SELECT order_id, count(*) FROM parcel GROUP BY order_id HAVING count(*) > 1"
    ):
        yield f"order {order_id} is {count} parcels"


shop.example(Place(order_id="o-1"))


async def fulfil_rightly(saga: Saga, order: Place) -> None:
    await saga.publish(Paid(order_id=order.order_id))


RIGHT = {fulfil: fulfil_rightly}
