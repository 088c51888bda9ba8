"""Wrong: the undo stands in an ``except`` block, so it runs only for the failure it names.

A call that times out, or a saga that an operator cancels, leaves another way.
"""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Rejected, Saga, Tx

shop = Participant("shop")
hotel = Participant("hotel", schema="CREATE TABLE room (trip_id TEXT PRIMARY KEY) STRICT;")
airline = Participant("airline", schema="CREATE TABLE seat (trip_id TEXT PRIMARY KEY) STRICT;")


class BookTrip(Command[None], to="shop", key="trip_id"):
    trip_id: str


class BookRoom(Command[None], to="hotel", key="trip_id"):
    trip_id: str


class FreeRoom(Command[None], to="hotel", key="trip_id"):
    trip_id: str


class BookSeat(Command[None], to="airline", key="trip_id"):
    trip_id: str


class FreeSeat(Command[None], to="airline", key="trip_id"):
    trip_id: str


@shop.saga
async def book(saga: Saga, trip: BookTrip) -> None:
    await saga.call(BookRoom(trip_id=trip.trip_id))
    try:
        await saga.call(BookSeat(trip_id=trip.trip_id), undo=FreeSeat(trip_id=trip.trip_id))
    except Rejected:
        await saga.call(FreeRoom(trip_id=trip.trip_id))
        raise


@hotel.handle
def book_room(tx: Tx, cmd: BookRoom) -> None:
    tx.execute("INSERT INTO room VALUES (?)", (cmd.trip_id,))


@hotel.handle
def free_room(tx: Tx, cmd: FreeRoom) -> None:
    tx.execute("DELETE FROM room WHERE trip_id = ?", (cmd.trip_id,))


@airline.handle
def book_seat(tx: Tx, cmd: BookSeat) -> None:
    tx.execute("INSERT INTO seat VALUES (?)", (cmd.trip_id,))


@airline.handle
def free_seat(tx: Tx, cmd: FreeSeat) -> None:
    tx.execute("DELETE FROM seat WHERE trip_id = ?", (cmd.trip_id,))


@shop.invariant("a trip has a room and a seat, or neither", when="idle")
def both(db: Db) -> Iterable[str]:
    rooms = set(db.of("hotel").execute("SELECT trip_id FROM room"))
    seats = set(db.of("airline").execute("SELECT trip_id FROM seat"))
    for (trip_id,) in rooms ^ seats:
        yield f"trip {trip_id} is booked by halves"


shop.example(BookTrip(trip_id="t-1"))


async def book_rightly(saga: Saga, trip: BookTrip) -> None:
    await saga.call(BookRoom(trip_id=trip.trip_id), undo=FreeRoom(trip_id=trip.trip_id))
    await saga.call(BookSeat(trip_id=trip.trip_id), undo=FreeSeat(trip_id=trip.trip_id))


RIGHT = {book: book_rightly}
