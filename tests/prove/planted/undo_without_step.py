"""Wrong: the undo takes for granted that its step ran. It also comes when nobody knows that.

A booking that was tried and failed may have been made or not; its undo finds no number here.
"""

from outboxd import Command, Context, Participant, Saga, Tx

shop = Participant("shop")
hotel = Participant("hotel", schema="CREATE TABLE room (trip_id TEXT PRIMARY KEY) STRICT;")


class BookTrip(Command[None], to="shop", key="trip_id"):
    trip_id: str


class BookRoom(Command[None], to="hotel", key="trip_id"):
    trip_id: str


class FreeRoom(Command[None], to="hotel", key="trip_id"):
    trip_id: str


@shop.saga
async def book(saga: Saga, trip: BookTrip) -> None:
    await saga.call(BookRoom(trip_id=trip.trip_id), undo=FreeRoom(trip_id=trip.trip_id))


async def reserve(trip_id: str, *, idempotency_key: str) -> None:
    """The hotel's client, as it is in production."""
    raise NotImplementedError("no simulation calls the hotel")


@hotel.handle
async def book_room(ctx: Context, cmd: BookRoom) -> None:
    await ctx.once("reserve", reserve, cmd.trip_id, idempotency_key=ctx.idempotency_key)
    await ctx.commit(record, cmd)


def record(tx: Tx, cmd: BookRoom) -> None:
    tx.execute("INSERT INTO room VALUES (?)", (cmd.trip_id,))


@hotel.handle
def free_room(tx: Tx, cmd: FreeRoom) -> None:
    found = tx.one("DELETE FROM room WHERE trip_id = ? RETURNING trip_id", (cmd.trip_id,))
    if found is None:
        raise LookupError(f"no room for {cmd.trip_id}")


shop.example(BookTrip(trip_id="t-1"))


def free_room_rightly(tx: Tx, cmd: FreeRoom) -> None:
    tx.execute("DELETE FROM room WHERE trip_id = ?", (cmd.trip_id,))


RIGHT = {free_room: free_room_rightly}
