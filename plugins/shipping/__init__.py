"""Shipping: books one courier for an order; an effect, since the courier is outside."""

from outboxd import Context, Participant, Reject, Tx

from .courier import Courier, NotServed, open_courier
from .messages import Booking, CancelShipment, ScheduleShipment

shipping = Participant(
    "shipping",
    schema="""
    CREATE TABLE shipment (
        number   TEXT PRIMARY KEY,
        order_id TEXT NOT NULL
    ) STRICT;
    CREATE INDEX shipment_order ON shipment (order_id);
    """,
    lifespan=open_courier,
)


@shipping.handle
async def book(ctx: Context, cmd: ScheduleShipment) -> Booking:
    """Calls the courier, then records what it said; a failure is retried with the same key."""
    courier: Courier = ctx.resource
    key = ctx.idempotency_key
    try:
        number = await ctx.once("book", courier.book, cmd.order_id, cmd.zone, idempotency_key=key)
    except NotServed as no:
        raise Reject(str(no)) from no
    return await ctx.commit(record, cmd, number)


def record(tx: Tx, cmd: ScheduleShipment, number: str) -> Booking:
    """The one transaction of ``book``."""
    tx.execute("INSERT INTO shipment VALUES (?, ?)", (number, cmd.order_id))
    return Booking(number)


@shipping.handle
async def cancel(ctx: Context, cmd: CancelShipment) -> None:
    """Names the booking by its key: right also if nobody knows whether there is one."""
    if ctx.step is None:
        raise Reject("a shipment is cancelled only as the undo of its booking")
    courier: Courier = ctx.resource
    await ctx.once("cancel", courier.cancel, idempotency_key=ctx.step.message_id)
    await ctx.commit(forget, cmd)


def forget(tx: Tx, cmd: CancelShipment) -> None:
    """The one transaction of ``cancel``."""
    tx.execute("DELETE FROM shipment WHERE order_id = ?", (cmd.order_id,))
