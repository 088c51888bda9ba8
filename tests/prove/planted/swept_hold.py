"""Wrong: a schedule clears away what looks left over, and a saga still needs it.

Nothing tells a seat that is held for a moment from one that was given up.
"""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, Tx

shop = Participant("shop")
hall = Participant(
    "hall",
    schema="""
    CREATE TABLE seat (guest TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;
    CREATE TABLE ticket (guest TEXT PRIMARY KEY) STRICT;
    """,
)


class Visit(Command[None], to="shop", key="guest"):
    guest: str


class Hold(Command[None], to="hall", key="guest"):
    guest: str


class GiveUp(Command[None], to="hall", key="guest"):
    guest: str


class Confirm(Command[None], to="hall", key="guest"):
    guest: str


@shop.saga
async def visit(saga: Saga, guest: Visit) -> None:
    await saga.call(Hold(guest=guest.guest), undo=GiveUp(guest=guest.guest))
    await saga.call(Confirm(guest=guest.guest))


@hall.handle
def hold(tx: Tx, cmd: Hold) -> None:
    tx.execute("INSERT INTO seat VALUES (?, 'held')", (cmd.guest,))


@hall.handle
def give_up(tx: Tx, cmd: GiveUp) -> None:
    tx.execute("UPDATE seat SET state = 'given up' WHERE guest = ?", (cmd.guest,))
    tx.execute("DELETE FROM ticket WHERE guest = ?", (cmd.guest,))


@hall.handle
def confirm(tx: Tx, cmd: Confirm) -> None:
    tx.execute("UPDATE seat SET state = 'sold' WHERE guest = ?", (cmd.guest,))
    tx.execute("INSERT INTO ticket VALUES (?)", (cmd.guest,))


@hall.every("1h")
def sweep(tx: Tx) -> None:
    tx.execute("DELETE FROM seat WHERE state <> 'sold'")


@hall.invariant("every ticket has its seat")
def seated(db: Db) -> Iterable[str]:
    for (guest,) in db.execute("SELECT guest FROM ticket EXCEPT SELECT guest FROM seat"):
        yield f"{guest} has a ticket and no seat"


shop.example(Visit(guest="ada"))


def sweep_rightly(tx: Tx) -> None:
    tx.execute("DELETE FROM seat WHERE state = 'given up'")


RIGHT = {sweep: sweep_rightly}
