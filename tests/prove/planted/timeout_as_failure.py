"""Wrong: a timeout is taken for a "no". The other bank is asked, and the first one charges late.

A call that was not answered in time may still be carried out: its undo is what takes that back.
"""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, TimedOut, Tx

shop = Participant("shop")
first_bank = Participant("first", schema="CREATE TABLE charge (order_id TEXT PRIMARY KEY) STRICT;")
other_bank = Participant("other", schema="CREATE TABLE charge (order_id TEXT PRIMARY KEY) STRICT;")


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Charge(Command[None], to="first", key="order_id", timeout="30s"):
    order_id: str


class Uncharge(Command[None], to="first", key="order_id"):
    order_id: str


class ChargeElsewhere(Command[None], to="other", key="order_id"):
    order_id: str


class UnchargeElsewhere(Command[None], to="other", key="order_id"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    order_id = order.order_id
    try:
        await saga.call(Charge(order_id=order_id))
    except TimedOut:
        undo = UnchargeElsewhere(order_id=order_id)
        await saga.call(ChargeElsewhere(order_id=order_id), undo=undo)


@first_bank.handle
def charge(tx: Tx, cmd: Charge) -> None:
    tx.execute("INSERT INTO charge VALUES (?)", (cmd.order_id,))


@first_bank.handle
def uncharge(tx: Tx, cmd: Uncharge) -> None:
    tx.execute("DELETE FROM charge WHERE order_id = ?", (cmd.order_id,))


@other_bank.handle
def charge_elsewhere(tx: Tx, cmd: ChargeElsewhere) -> None:
    tx.execute("INSERT INTO charge VALUES (?)", (cmd.order_id,))


@other_bank.handle
def uncharge_elsewhere(tx: Tx, cmd: UnchargeElsewhere) -> None:
    tx.execute("DELETE FROM charge WHERE order_id = ?", (cmd.order_id,))


@shop.invariant("an order is charged at one bank only", when="idle")
def charged_once(db: Db) -> Iterable[str]:
    first = set(db.of("first").execute("SELECT order_id FROM charge"))
    other = set(db.of("other").execute("SELECT order_id FROM charge"))
    for (order_id,) in first & other:
        yield f"order {order_id} was charged at both banks"


shop.example(Place(order_id="o-1"))


async def fulfil_rightly(saga: Saga, order: Place) -> None:
    order_id = order.order_id
    try:
        await saga.call(Charge(order_id=order_id), undo=Uncharge(order_id=order_id))
    except TimedOut:
        undo = UnchargeElsewhere(order_id=order_id)
        await saga.call(ChargeElsewhere(order_id=order_id), undo=undo)


RIGHT = {fulfil: fulfil_rightly}
