"""A cast of sagas that start sagas: one calls for its child, one starts it and asks later."""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, Tx

desk = Participant(
    "desk",
    schema="""
    CREATE TABLE plan (id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;
    CREATE TABLE trip (id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;
    """,
)
worker = Participant("worker", schema="CREATE TABLE work (id TEXT PRIMARY KEY) STRICT;")
CAST = [desk, worker]


class Plan(Command[str], to="desk", key="id"):
    id: str


class Later(Command[str], to="desk", key="id"):
    id: str


class Go(Command[str], to="desk", key="id", timeout="10m"):
    id: str


class Ungo(Command[None], to="desk", key="id"):
    id: str


class Do(Command[None], to="worker", key="id"):
    id: str


class Undo(Command[None], to="worker", key="id"):
    id: str


class Check(Command[None], to="worker", key="id"):
    id: str


@desk.saga
async def plan(saga: Saga, cmd: Plan) -> str:
    await saga.run(plan_is, cmd.id, "begun")
    saga.undo(plan_is, cmd.id, "failed")
    await saga.call(Go(id=cmd.id), undo=Ungo(id=cmd.id))
    await saga.call(Check(id=cmd.id))
    await saga.run(plan_is, cmd.id, "done")
    return "planned"


@desk.saga
async def later(saga: Saga, cmd: Later) -> str:
    await saga.run(plan_is, cmd.id, "begun")
    saga.undo(plan_is, cmd.id, "failed")
    child = await saga.start(Go(id=cmd.id), undo=Ungo(id=cmd.id))
    await saga.sleep("5s")
    await child.result()
    await saga.call(Check(id=cmd.id))
    await saga.run(plan_is, cmd.id, "done")
    return "planned"


@desk.saga
async def trip(saga: Saga, go: Go) -> str:
    await saga.run(trip_is, go.id, "begun")
    saga.undo(trip_is, go.id, "undone")
    await saga.call(Do(id=go.id), undo=Undo(id=go.id))
    await saga.run(trip_is, go.id, "done")
    return "travelled"


@desk.handle
def ungo(tx: Tx, cmd: Ungo) -> None:
    """Only what has ended is undone, and what has undone itself is not undone again."""
    assert tx.step is not None
    assert tx.step.known
    changed = tx.execute(
        "UPDATE trip SET state = 'undone' WHERE id = ? AND state = 'done'", (cmd.id,)
    ).changed
    assert changed == 1


@worker.handle
def do(tx: Tx, cmd: Do) -> None:
    tx.execute("INSERT INTO work VALUES (?)", (cmd.id,))


@worker.handle
def undo(tx: Tx, cmd: Undo) -> None:
    tx.execute("DELETE FROM work WHERE id = ?", (cmd.id,))


@worker.handle
def check(tx: Tx, cmd: Check) -> None: ...


def plan_is(tx: Tx, id: str, state: str) -> None:
    tx.execute("INSERT OR REPLACE INTO plan VALUES (?, ?)", (id, state))


def trip_is(tx: Tx, id: str, state: str) -> None:
    tx.execute("INSERT OR REPLACE INTO trip VALUES (?, ?)", (id, state))


@desk.invariant("a plan that failed leaves no trip, one that is done has one", when="idle")
def both_or_none(db: Db) -> Iterable[str]:
    together = "SELECT plan.id, plan.state, trip.state FROM plan LEFT JOIN trip USING (id)"
    for id, planned, travelled in db.execute(together):
        if (planned, travelled) not in (
            ("done", "done"),
            ("failed", "undone"),
            ("failed", None),
        ):
            yield f"plan {id} is {planned}, its trip {travelled}"
