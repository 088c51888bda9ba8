"""Wrong: the undo refunds without an idempotency key, so a repeated undo refunds twice."""

from outboxd import Command, Context, Participant, Reject, Saga, Tx

shop = Participant("shop")
bank = Participant("bank", schema="CREATE TABLE charge (order_id TEXT PRIMARY KEY) STRICT;")


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Charge(Command[None], to="bank", key="order_id"):
    order_id: str


class Refund(Command[None], to="bank", key="order_id"):
    order_id: str


class Ship(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    await saga.call(Charge(order_id=order.order_id), undo=Refund(order_id=order.order_id))
    await saga.call(Ship(order_id=order.order_id))


@shop.handle
def ship(tx: Tx, cmd: Ship) -> None:
    raise Reject("no courier goes there")


@bank.handle
def charge(tx: Tx, cmd: Charge) -> None:
    tx.execute("INSERT INTO charge VALUES (?)", (cmd.order_id,))


async def give_back(order_id: str, idempotency_key: str | None = None) -> None:
    """The bank's client, as it is in production."""
    raise NotImplementedError("no simulation calls the bank")


@bank.handle
async def refund(ctx: Context, cmd: Refund) -> None:
    await ctx.once("refund", give_back, cmd.order_id)
    await ctx.commit(forget, cmd)


def forget(tx: Tx, cmd: Refund) -> None:
    tx.execute("DELETE FROM charge WHERE order_id = ?", (cmd.order_id,))


shop.example(Place(order_id="o-1"))


async def refund_rightly(ctx: Context, cmd: Refund) -> None:
    await ctx.once("refund", give_back, cmd.order_id, idempotency_key=ctx.idempotency_key)
    await ctx.commit(forget, cmd)


RIGHT = {refund: refund_rightly}
