"""As little as a saga with an undo and an event needs, so that many schedules can be run."""

from collections.abc import Iterable

from outboxd import Command, Db, Event, Participant, Saga, Tx

shop = Participant("shop")
bank = Participant(
    "bank",
    schema="""
    CREATE TABLE charge (order_id TEXT NOT NULL) STRICT;
    CREATE TABLE receipt (order_id TEXT NOT NULL) STRICT;
    """,
)


class Buy(Command[None], to="shop", key="order_id"):
    order_id: str


class Bought(Event, source="shop", key="order_id"):
    order_id: str


class Charge(Command[None], to="bank", key="order_id"):
    order_id: str


class Refund(Command[None], to="bank", key="order_id"):
    order_id: str


@shop.saga
async def buy(saga: Saga, order: Buy) -> None:
    order_id = order.order_id
    await saga.call(Charge(order_id=order_id), undo=Refund(order_id=order_id))
    await saga.publish(Bought(order_id=order_id))


@bank.handle
def charge(tx: Tx, cmd: Charge) -> None:
    tx.execute("INSERT INTO charge VALUES (?)", (cmd.order_id,))


@bank.handle
def refund(tx: Tx, cmd: Refund) -> None:
    tx.execute("DELETE FROM charge WHERE order_id = ?", (cmd.order_id,))


@bank.handle
def receipt(tx: Tx, event: Bought) -> None:
    tx.execute("INSERT INTO receipt VALUES (?)", (event.order_id,))


@bank.invariant("each order is charged at most once")
def once(db: Db) -> Iterable[str]:
    for order_id, count in db.execute("SELECT order_id, count(*) FROM charge GROUP BY order_id"):
        if count > 1:
            yield f"order {order_id} was charged {count} times"


shop.example(Buy(order_id="o-1"))

CAST = [shop, bank]
