"""A bike is rented: a child saga, a moment to wait for, a schedule, a message of an older version.

The saga of the rental starts the saga of the deposit and waits for it at the end; if the rental is
cancelled meanwhile, so is the deposit. `saga.until` waits for a moment of the clock; a schedule
counts the bikes that are out. `Rent` once had minutes: what was sent then is still understood.

outboxd run examples/rentals --data rentals &
outboxd send Rent '{"id": "1", "seconds": 5}' --wait --data rentals
outboxd schedules --data rentals
outboxd prove examples/rentals
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from outboxd import Command, Db, Participant, Saga, Tx


def _from_minutes(old: dict[str, Any], version: int) -> dict[str, Any]:
    return {"id": old["id"], "seconds": old["minutes"] * 60}


class Rent(Command[str], to="bikes", key="id", version=2, upcast=_from_minutes):
    id: str
    seconds: int


class Deposit(Command[int], to="till", key="id"):
    id: str
    cents: int


class PayBack(Command[None], to="till", key="id"):
    id: str


bikes = Participant(
    "bikes",
    schema="""
        CREATE TABLE bike_out (id TEXT PRIMARY KEY) STRICT;
        CREATE TABLE seen_out (at REAL NOT NULL, bikes INTEGER NOT NULL) STRICT;
    """,
)
till = Participant("till", schema="CREATE TABLE held (id TEXT PRIMARY KEY, cents INTEGER) STRICT;")


@bikes.saga
async def rental(saga: Saga, rent: Rent) -> str:
    """The bike is out until its time is over; then the deposit is looked at."""
    deposit = await saga.start(Deposit(id=rent.id, cents=5000), undo=PayBack(id=rent.id))
    await saga.run(hand_out, rent.id)
    saga.undo(take_in, rent.id)
    await saga.until(saga.now() + timedelta(seconds=rent.seconds))
    await saga.run(take_in, rent.id)
    return f"back, deposit of {await deposit.result()} cents"


def hand_out(tx: Tx, id: str) -> None:
    tx.execute("INSERT INTO bike_out VALUES (?)", (id,))


def take_in(tx: Tx, id: str) -> None:
    tx.execute("DELETE FROM bike_out WHERE id = ?", (id,))


@till.saga
async def deposit(saga: Saga, wanted: Deposit) -> int:
    """Held at once, and told after the bank's second thoughts."""
    await saga.run(hold, wanted.id, wanted.cents)
    saga.undo(give_back, wanted.id)
    await saga.sleep("1s")
    return wanted.cents


def hold(tx: Tx, id: str, cents: int) -> None:
    tx.execute("INSERT INTO held VALUES (?, ?)", (id, cents))


def give_back(tx: Tx, id: str) -> None:
    tx.execute("DELETE FROM held WHERE id = ?", (id,))


@till.handle
def pay_back(tx: Tx, cmd: PayBack) -> None:
    give_back(tx, cmd.id)


@bikes.every("10s")
def count(tx: Tx) -> None:
    """How many are out, now and then."""
    tx.execute("INSERT INTO seen_out SELECT ?, COUNT(*) FROM bike_out", (tx.now.timestamp(),))


@bikes.invariant("no bike is out when all is quiet", when="idle")
def all_back(db: Db) -> Iterable[str]:
    for (id,) in db.execute("SELECT id FROM bike_out"):
        yield f"{id} is still out"


bikes.example(Rent(id="1", seconds=60))
