"""Wrong: a held seat expires after a minute, and the saga confirms it without another look.

When the payment takes longer the seat is free again, and confirmed all the same.
"""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Reject, Saga, Tx

shop = Participant("shop")
hall = Participant(
    "hall",
    schema="""
    CREATE TABLE seat (guest TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;
    CREATE TABLE ticket (guest TEXT PRIMARY KEY) STRICT;
    """,
)
bank = Participant("bank")


class Visit(Command[None], to="shop", key="guest"):
    guest: str


class Hold(Command[None], to="hall", key="guest"):
    guest: str


class Expire(Command[None], to="hall", key="guest"):
    guest: str


class Pay(Command[None], to="bank", key="guest", timeout="5m"):
    guest: str


class Confirm(Command[None], to="hall", key="guest"):
    guest: str


@shop.saga
async def visit(saga: Saga, guest: Visit) -> None:
    await saga.call(Hold(guest=guest.guest))
    await saga.call(Pay(guest=guest.guest))
    await saga.call(Confirm(guest=guest.guest))


@bank.handle
def pay(tx: Tx, cmd: Pay) -> None:
    pass


@hall.handle
def hold(tx: Tx, cmd: Hold) -> None:
    tx.execute("INSERT INTO seat VALUES (?, 'held')", (cmd.guest,))
    tx.send(Expire(guest=cmd.guest), delay="60s")


@hall.handle
def expire(tx: Tx, cmd: Expire) -> None:
    tx.execute("DELETE FROM seat WHERE guest = ? AND state = 'held'", (cmd.guest,))


@hall.handle
def confirm(tx: Tx, cmd: Confirm) -> None:
    tx.execute("UPDATE seat SET state = 'sold' WHERE guest = ?", (cmd.guest,))
    tx.execute("INSERT INTO ticket VALUES (?)", (cmd.guest,))


@hall.invariant("every ticket has its seat")
def seated(db: Db) -> Iterable[str]:
    for (guest,) in db.execute("SELECT guest FROM ticket EXCEPT SELECT guest FROM seat"):
        yield f"{guest} has a ticket and no seat"


shop.example(Visit(guest="ada"))


def confirm_rightly(tx: Tx, cmd: Confirm) -> None:
    sold = tx.execute("UPDATE seat SET state = 'sold' WHERE guest = ?", (cmd.guest,))
    if not sold.changed:
        raise Reject("the seat was held too long")
    tx.execute("INSERT INTO ticket VALUES (?)", (cmd.guest,))


RIGHT = {confirm: confirm_rightly}
