"""A saga that waits for several things at once, and for a message: all of them, then the first."""

from collections.abc import Iterable

from outboxd import Command, Db, Event, Participant, Saga, Tx

TABLE = "CREATE TABLE booked (id TEXT NOT NULL) STRICT;"

desk = Participant("desk")
air = Participant("air", schema=TABLE)
rail = Participant("rail", schema=TABLE)


class Travel(Command[str], to="desk", key="id"):
    id: str


class Fly(Command[str], to="air", key="id", timeout="30s"):
    id: str


class StayHome(Command[None], to="air", key="id"):
    id: str


class Ride(Command[str], to="rail", key="id", timeout="30s"):
    id: str


class GetOff(Command[None], to="rail", key="id"):
    id: str


class Boarded(Event, source="air", key="id"):
    id: str


@desk.saga(receives=(Boarded,))
async def travel(saga: Saga, cmd: Travel) -> str:
    """There by air and rail, and back with whichever is first."""
    there, back = cmd.id, f"{cmd.id}-back"
    _, by_rail, _ = await saga.all(
        saga.call(Fly(id=there), undo=StayHome(id=there)),
        saga.call(Ride(id=there), undo=GetOff(id=there)),
        saga.receive(Boarded, timeout="10m"),
    )
    first, _ = await saga.race(
        saga.call(Fly(id=back), undo=StayHome(id=back)),
        saga.call(Ride(id=back), undo=GetOff(id=back)),
        saga.sleep("20s"),
    )
    return f"{by_rail} {first}"


@air.handle
def fly(tx: Tx, cmd: Fly) -> str:
    tx.execute("INSERT INTO booked VALUES (?)", (cmd.id,))
    tx.publish(Boarded(id=cmd.id))
    return "by air"


@air.handle
def stay_home(tx: Tx, cmd: StayHome) -> None:
    tx.execute("DELETE FROM booked WHERE id = ?", (cmd.id,))


@rail.handle
def ride(tx: Tx, cmd: Ride) -> str:
    tx.execute("INSERT INTO booked VALUES (?)", (cmd.id,))
    return "by rail"


@rail.handle
def get_off(tx: Tx, cmd: GetOff) -> None:
    tx.execute("DELETE FROM booked WHERE id = ?", (cmd.id,))


def booked_once(db: Db) -> Iterable[str]:
    for id, times in db.execute("SELECT id, COUNT(*) FROM booked GROUP BY id HAVING COUNT(*) > 1"):
        yield f"{id} is booked {times} times"


air.invariant("a flight is booked at most once")(booked_once)
rail.invariant("a train is booked at most once")(booked_once)
desk.example(Travel(id="1"))

CAST = [desk, air, rail]
