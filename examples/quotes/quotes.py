"""Parallel steps: money and goods are held at once, then two couriers race for the order.

`saga.all` waits for both holds; if one says no, the other is undone. `saga.race` takes the courier
that answers first; the other one's quote is undone.

outboxd run examples/quotes --data quotes &
outboxd send Buy '{"order_id": "1"}' --wait --data quotes
outboxd prove examples/quotes
"""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, Tx


class Hold(Command[None], to="bank", key="order_id", timeout="20s"):
    order_id: str


class Release(Command[None], to="bank", key="order_id"):
    order_id: str


class Pick(Command[None], to="store", key="order_id", timeout="20s"):
    order_id: str


class PutBack(Command[None], to="store", key="order_id"):
    order_id: str


class AskBikes(Command[str], to="bikes", key="order_id", timeout="20s"):
    order_id: str


class ForgetBikes(Command[None], to="bikes", key="order_id"):
    order_id: str


class AskVans(Command[str], to="vans", key="order_id", timeout="20s"):
    order_id: str


class ForgetVans(Command[None], to="vans", key="order_id"):
    order_id: str


class Buy(Command[str], to="desk", key="order_id"):
    order_id: str


HELD = "CREATE TABLE held (order_id TEXT PRIMARY KEY) STRICT;"

bank = Participant("bank", schema=HELD)
store = Participant("store", schema=HELD)
bikes = Participant("bikes", schema=HELD)
vans = Participant("vans", schema=HELD)
desk = Participant(
    "desk",
    schema="""
    CREATE TABLE orders (
        order_id TEXT PRIMARY KEY,
        state    TEXT NOT NULL CHECK (state IN ('placed', 'done', 'failed')),
        courier  TEXT
    ) STRICT;
    """,
)


def keep(tx: Tx, order_id: str) -> None:
    """Something is held for an order."""
    tx.execute("INSERT INTO held VALUES (?)", (order_id,))


def let_go(tx: Tx, order_id: str) -> None:
    """Nothing is held for it any more."""
    tx.execute("DELETE FROM held WHERE order_id = ?", (order_id,))


@bank.handle
def hold(tx: Tx, cmd: Hold) -> None:
    """Holds the money."""
    keep(tx, cmd.order_id)


@bank.handle
def release(tx: Tx, cmd: Release) -> None:
    """Gives it back."""
    let_go(tx, cmd.order_id)


@store.handle
def pick(tx: Tx, cmd: Pick) -> None:
    """Takes the goods from the shelf."""
    keep(tx, cmd.order_id)


@store.handle
def put_back(tx: Tx, cmd: PutBack) -> None:
    """Puts them back."""
    let_go(tx, cmd.order_id)


@bikes.handle
def ask_bikes(tx: Tx, cmd: AskBikes) -> str:
    """Keeps a bike free."""
    keep(tx, cmd.order_id)
    return "bikes"


@bikes.handle
def forget_bikes(tx: Tx, cmd: ForgetBikes) -> None:
    """Lets it go."""
    let_go(tx, cmd.order_id)


@vans.handle
def ask_vans(tx: Tx, cmd: AskVans) -> str:
    """Keeps a van free."""
    keep(tx, cmd.order_id)
    return "vans"


@vans.handle
def forget_vans(tx: Tx, cmd: ForgetVans) -> None:
    """Lets it go."""
    let_go(tx, cmd.order_id)


@desk.saga
async def buy(saga: Saga, cmd: Buy) -> str:
    """Both holds, then the first courier."""
    order_id = cmd.order_id
    await saga.run(place, order_id)
    saga.undo(fail, order_id)
    await saga.all(
        saga.call(Hold(order_id=order_id), undo=Release(order_id=order_id)),
        saga.call(Pick(order_id=order_id), undo=PutBack(order_id=order_id)),
    )
    _, courier = await saga.race(
        saga.call(AskBikes(order_id=order_id), undo=ForgetBikes(order_id=order_id)),
        saga.call(AskVans(order_id=order_id), undo=ForgetVans(order_id=order_id)),
    )
    await saga.run(finish, order_id, courier)
    return courier


def place(tx: Tx, order_id: str) -> None:
    """The order exists."""
    tx.execute("INSERT INTO orders (order_id, state) VALUES (?, 'placed')", (order_id,))


def finish(tx: Tx, order_id: str, courier: str) -> None:
    """It is done."""
    tx.execute(
        "UPDATE orders SET state = 'done', courier = ? WHERE order_id = ?", (courier, order_id)
    )


def fail(tx: Tx, order_id: str) -> None:
    """It failed."""
    tx.execute("UPDATE orders SET state = 'failed' WHERE order_id = ?", (order_id,))


@desk.invariant("money, goods and one courier for an order that is done, else nothing", when="idle")
def whole(db: Db) -> Iterable[str]:
    """Compares with everyone who was asked."""
    for order_id, state, courier in db.execute("SELECT order_id, state, courier FROM orders"):
        holders = [
            name
            for name in ("bank", "store", "bikes", "vans")
            if db.of(name).one("SELECT 1 FROM held WHERE order_id = ?", (order_id,))
        ]
        wanted = ["bank", "store", courier] if state == "done" else []
        if holders != wanted:
            yield f"order {order_id} is {state} ({courier}) and is held by {holders}"


desk.example(Buy(order_id="o-1"))
