"""Wrong: the saga reads points, adds to them and writes them back: what came between is lost."""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Saga, Tx

shop = Participant("shop")
club = Participant(
    "club",
    schema="""
    CREATE TABLE member (name TEXT PRIMARY KEY, points INTEGER NOT NULL) STRICT;
    CREATE TABLE purchase (order_id TEXT PRIMARY KEY, points INTEGER NOT NULL) STRICT;
    INSERT INTO member VALUES ('ada', 0);
    """,
)


class Buy(Command[None], to="shop", key="order_id"):
    order_id: str
    member: str


class GetPoints(Command[int], to="club", key="order_id"):
    order_id: str
    member: str


class SetPoints(Command[None], to="club", key="order_id"):
    order_id: str
    member: str
    points: int


@shop.saga
async def buy(saga: Saga, order: Buy) -> None:
    points = await saga.call(GetPoints(order_id=order.order_id, member=order.member))
    await saga.call(SetPoints(order_id=order.order_id, member=order.member, points=points + 10))


@club.handle
def get(tx: Tx, cmd: GetPoints) -> int:
    return int(tx.value("SELECT points FROM member WHERE name = ?", (cmd.member,)))


@club.handle
def put(tx: Tx, cmd: SetPoints) -> None:
    tx.execute("UPDATE member SET points = ? WHERE name = ?", (cmd.points, cmd.member))
    tx.execute("INSERT INTO purchase VALUES (?, 10)", (cmd.order_id,))


@club.invariant("points are the sum of the purchases")
def summed(db: Db) -> Iterable[str]:
    points, owed = (
        db.value("SELECT points FROM member"),
        db.value("SELECT sum(points) FROM purchase"),
    )
    if points != (owed or 0):
        yield f"ada has {points} points and bought for {owed}"


shop.example(Buy(order_id="o-1", member="ada"))


def put_rightly(tx: Tx, cmd: SetPoints) -> None:
    tx.execute("UPDATE member SET points = points + 10 WHERE name = ?", (cmd.member,))
    tx.execute("INSERT INTO purchase VALUES (?, 10)", (cmd.order_id,))


RIGHT = {put: put_rightly}
