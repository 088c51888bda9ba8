"""Wrong: every attempt charges the card under an idempotency key of its own.

When the bank's answer is lost, the retry is a new charge for the bank.
"""

import uuid

from outboxd import Command, Context, Participant, Tx

shop = Participant("shop", schema="CREATE TABLE paid (order_id TEXT PRIMARY KEY) STRICT;")


class Pay(Command[None], to="shop", key="order_id"):
    order_id: str


async def charge(order_id: str, *, idempotency_key: str) -> None:
    """The bank's client, as it is in production."""
    raise NotImplementedError("no simulation calls the bank")


@shop.handle
async def pay(ctx: Context, cmd: Pay) -> None:
    await ctx.once("charge", charge, cmd.order_id, idempotency_key=str(uuid.uuid4()))
    await ctx.commit(record, cmd)


def record(tx: Tx, cmd: Pay) -> None:
    tx.execute("INSERT INTO paid VALUES (?)", (cmd.order_id,))


shop.example(Pay(order_id="o-1"))


async def pay_rightly(ctx: Context, cmd: Pay) -> None:
    await ctx.once("charge", charge, cmd.order_id, idempotency_key=ctx.idempotency_key)
    await ctx.commit(record, cmd)


RIGHT = {pay: pay_rightly}
