"""A small cast that uses most of outboxd: a saga with undos, an effect, a sleep, an event."""

from collections.abc import Iterable

from outboxd import Command, Context, Db, Event, Participant, Saga, Tx

shop = Participant(
    "shop", schema="CREATE TABLE orders (id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;"
)
bank = Participant("bank", schema="CREATE TABLE charge (order_id TEXT NOT NULL) STRICT;")
courier = Participant(
    "courier",
    schema="""
    CREATE TABLE parcel (order_id TEXT NOT NULL) STRICT;
    CREATE TABLE note (order_id TEXT NOT NULL, n INTEGER NOT NULL) STRICT;
    CREATE TABLE thanks (order_id TEXT NOT NULL) STRICT;
    """,
)


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Done(Event, source="shop", key="order_id"):
    order_id: str


class Charge(Command[None], to="bank", key="order_id"):
    order_id: str


class Refund(Command[None], to="bank", key="order_id"):
    order_id: str


class Book(Command[str], to="courier", key="order_id"):
    order_id: str


class Unbook(Command[None], to="courier", key="order_id"):
    order_id: str


class Note(Command[None], to="courier", key="order_id"):
    order_id: str
    n: int


class Remark(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    order_id = order.order_id
    await saga.run(put, order_id, "placed")
    saga.undo(put, order_id, "failed")
    await saga.call(Charge(order_id=order_id), undo=Refund(order_id=order_id))
    await saga.call(Book(order_id=order_id), undo=Unbook(order_id=order_id))
    await saga.sleep("10s")
    saga.point_of_no_return()
    await saga.run(put, order_id, "done")
    await saga.publish(Done(order_id=order_id))


def put(tx: Tx, order_id: str, state: str) -> None:
    tx.execute(
        "INSERT INTO orders VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state",
        (order_id, state),
    )


@shop.handle
def remark(tx: Tx, cmd: Remark) -> None:
    tx.send(Note(order_id=cmd.order_id, n=1))
    tx.send(Note(order_id=cmd.order_id, n=2))


@bank.handle
def charge(tx: Tx, cmd: Charge) -> None:
    tx.execute("INSERT INTO charge VALUES (?)", (cmd.order_id,))


@bank.handle
def refund(tx: Tx, cmd: Refund) -> None:
    tx.execute("DELETE FROM charge WHERE order_id = ?", (cmd.order_id,))


async def fetch(order_id: str, *, idempotency_key: str) -> str:
    """A courier's client, as it is in production."""
    raise NotImplementedError("no simulation calls the courier")


async def send_back(order_id: str, *, idempotency_key: str) -> None:
    """A courier's client, as it is in production."""
    raise NotImplementedError("no simulation calls the courier")


@courier.handle
async def book(ctx: Context, cmd: Book) -> str:
    number = await ctx.once("fetch", fetch, cmd.order_id, idempotency_key=ctx.idempotency_key)
    return await ctx.commit(record, cmd.order_id, number)


def record(tx: Tx, order_id: str, number: str) -> str:
    tx.execute("INSERT INTO parcel VALUES (?)", (order_id,))
    return number


@courier.handle
async def unbook(ctx: Context, cmd: Unbook) -> None:
    key = ctx.idempotency_key
    await ctx.once("send_back", send_back, cmd.order_id, idempotency_key=key)
    await ctx.commit(forget, cmd.order_id)


def forget(tx: Tx, order_id: str) -> None:
    tx.execute("DELETE FROM parcel WHERE order_id = ?", (order_id,))


@courier.handle
def note(tx: Tx, cmd: Note) -> None:
    tx.execute("INSERT INTO note VALUES (?, ?)", (cmd.order_id, cmd.n))


@courier.handle
def thank(tx: Tx, event: Done) -> None:
    tx.execute("INSERT INTO thanks VALUES (?)", (event.order_id,))


@shop.invariant("what is done is charged and sent once, what failed not at all", when="idle")
def whole(db: Db) -> Iterable[str]:
    for order_id, state in db.execute("SELECT id, state FROM orders"):
        for name, table in (("bank", "charge"), ("courier", "parcel")):
            sql = f"SELECT count(*) FROM {table} WHERE order_id = ?"
            count = db.of(name).value(sql, (order_id,))
            if count != int(state == "done"):
                yield f"order {order_id} is {state} and has {count} in {table}"


@courier.invariant("each note comes once")
def noted_once(db: Db) -> Iterable[str]:
    for order_id, n in db.execute(
        "SELECT order_id, n FROM note GROUP BY order_id, n HAVING count(*) > 1"
    ):
        yield f"note {n} of {order_id} was taken twice"


shop.example(Place(order_id="o-1"), Remark(order_id="o-1"))

CAST = [shop, bank, courier]
