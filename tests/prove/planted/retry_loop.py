"""Wrong: the saga tries a call that timed out again by itself, as a new call with a new id.

The participant sees two different messages that say the same, and both are carried out. outboxd
already tries again under one id; a handler that must stand two calls checks its own key.
"""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, TimedOut, Tx

shop = Participant("shop")
bank = Participant("bank", schema="CREATE TABLE charge (order_id TEXT NOT NULL) STRICT;")


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Charge(Command[None], to="bank", key="order_id", timeout="30s"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    for _ in range(3):
        try:
            await saga.call(Charge(order_id=order.order_id))
            return
        except TimedOut:
            continue


@bank.handle
def charge(tx: Tx, cmd: Charge) -> None:
    tx.execute("INSERT INTO charge VALUES (?)", (cmd.order_id,))


@bank.invariant("an order is charged at most once")
def charged_once(db: Db) -> Iterable[str]:
    for order_id, times in db.execute(
        "SELECT order_id, count(*) FROM charge GROUP BY order_id HAVING count(*) > 1"
    ):
        yield f"order {order_id} was charged {times} times"


shop.example(Place(order_id="o-1"))


def charge_rightly(tx: Tx, cmd: Charge) -> None:
    tx.execute(
        "INSERT INTO charge SELECT :id WHERE :id NOT IN (SELECT order_id FROM charge)",
        {"id": cmd.order_id},
    )


RIGHT = {charge: charge_rightly}
