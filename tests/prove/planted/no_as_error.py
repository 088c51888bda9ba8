"""Wrong: the second booking of a seat runs into the table's key. A "no" is not a failure.

The handler is tried again, in vain, and becomes a dead letter, on which the saga stands.
"""

from outboxd import Command, Participant, Reject, Saga, Tx

shop = Participant("shop")
hall = Participant("hall", schema="CREATE TABLE seat (seat TEXT PRIMARY KEY, guest TEXT) STRICT;")


class Visit(Command[None], to="shop", key="guest"):
    guest: str
    seat: str


class BookSeat(Command[None], to="hall", key="guest"):
    guest: str
    seat: str


@shop.saga
async def visit(saga: Saga, guest: Visit) -> None:
    await saga.call(BookSeat(guest=guest.guest, seat=guest.seat))


@hall.handle
def book(tx: Tx, cmd: BookSeat) -> None:
    tx.execute("INSERT INTO seat VALUES (?, ?)", (cmd.seat, cmd.guest))


shop.example(Visit(guest="ada", seat="A1"))


def book_rightly(tx: Tx, cmd: BookSeat) -> None:
    if tx.one("SELECT 1 FROM seat WHERE seat = ?", (cmd.seat,)):
        raise Reject("somebody sits there")
    tx.execute("INSERT INTO seat VALUES (?, ?)", (cmd.seat, cmd.guest))


RIGHT = {book: book_rightly}
