"""A saga, and a schedule beside it that sends something on, later."""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, Tx

clinic = Participant(
    "clinic",
    schema="""
    CREATE TABLE visit (id TEXT PRIMARY KEY, state TEXT NOT NULL, told INTEGER NOT NULL) STRICT;
    CREATE TABLE round (number INTEGER PRIMARY KEY, id TEXT NOT NULL) STRICT;
    """,
)
post = Participant("post", schema="CREATE TABLE letter (id TEXT PRIMARY KEY) STRICT;")
CAST = [clinic, post]


class Visit(Command[str], to="clinic", key="id"):
    id: str


class Tell(Command[None], to="post", key="id"):
    id: str


@clinic.saga
async def visit(saga: Saga, cmd: Visit) -> str:
    await saga.run(visit_is, cmd.id, "booked")
    saga.undo(visit_is, cmd.id, "off")
    await saga.sleep("2h")
    await saga.run(visit_is, cmd.id, "over")
    return "healed"


@clinic.every("90m")
def remind(tx: Tx) -> None:
    """Whoever has booked is told so, once."""
    tx.execute("INSERT INTO round (id) VALUES (?)", (tx.message_id,))
    for (id,) in tx.execute("SELECT id FROM visit WHERE state = 'booked' AND told = 0"):
        tx.execute("UPDATE visit SET told = 1 WHERE id = ?", (id,))
        tx.send(Tell(id=id), delay="10m")


@post.handle
def tell(tx: Tx, cmd: Tell) -> None:
    tx.execute("INSERT INTO letter VALUES (?)", (cmd.id,))


def visit_is(tx: Tx, id: str, state: str) -> None:
    tx.execute(
        "INSERT INTO visit VALUES (?, ?, 0) ON CONFLICT (id) DO UPDATE SET state = excluded.state",
        (id, state),
    )


@clinic.invariant("nobody has a letter who was not to be told")
def told(db: Db) -> Iterable[str]:
    wanted = {id for (id,) in db.execute("SELECT id FROM visit WHERE told = 1")}
    written = {id for (id,) in db.of("post").execute("SELECT id FROM letter")}
    yield from sorted(written - wanted)


@clinic.invariant("no round is held twice")
def rounds(db: Db) -> Iterable[str]:
    for id, count in db.execute("SELECT id, COUNT(*) FROM round GROUP BY id HAVING COUNT(*) > 1"):
        yield f"{id} was held {count} times"


clinic.example(Visit(id="1"))
