"""Mistakes with handlers: a type checker reports each line marked so, and no other."""

from collections.abc import Iterable

from outboxd import Context, Db, Participant, Policy, Saga, Tx
from tests.typing.correct.messages import (
    AuthorizePayment,
    BookCourier,
    Booking,
    CancelCourier,
    PaymentAuthorized,
    PlaceOrder,
    VoidPayment,
)

payments = Participant("payments", schema=7)  # error


async def ask_courier(address: str, *, idempotency_key: str) -> Booking:
    return Booking(f"{address} {idempotency_key}")


def record(tx: Tx, cmd: BookCourier, booking: Booking) -> Booking:
    tx.execute("INSERT INTO booking VALUES (?, ?)", (cmd.order_id, booking.number))
    return booking


def sync_with_context(ctx: Context, cmd: VoidPayment) -> None: ...
def with_saga(saga: Saga, cmd: VoidPayment) -> None: ...
def without_message(tx: Tx) -> None: ...
async def effect(ctx: Context, cmd: BookCourier) -> None: ...


@payments.handle  # error
def decorated(saga: Saga, cmd: VoidPayment) -> None: ...


@payments.handle(hold_key=True)  # error
def decorated_with_options(saga: Saga, cmd: VoidPayment) -> None: ...


payments.handle(sync_with_context)  # error
payments.handle(with_saga)  # error
payments.handle(without_message)  # error
payments.handle(retry=Policy())(with_saga)  # error
payments.handle(effect, retry=Policy())  # error
payments.handle(attempts=3)(effect)  # error


@payments.handle
def publishes_a_command(tx: Tx, cmd: AuthorizePayment) -> PaymentAuthorized:
    tx.publish(VoidPayment(order_id=cmd.order_id))  # error
    tx.send(PaymentAuthorized(order_id=cmd.order_id, cents=cmd.cents))  # error
    tx.send(VoidPayment(order_id=cmd.order_id), delay=None if cmd.cents else b"1h")  # error
    rows: list[str] = tx.execute("SELECT 1")  # error
    return VoidPayment(order_id=str(rows))  # error


@payments.handle
async def calls_wrongly(ctx: Context, cmd: BookCourier) -> Booking:
    await ctx.once("book", ask_courier, cmd.address)  # error
    await ctx.once("book", ask_courier, 7, idempotency_key=ctx.idempotency_key)  # error
    await ctx.once(ask_courier, cmd.address, idempotency_key=ctx.idempotency_key)  # error
    await ctx.once("record", record, cmd)  # error
    booking = await ctx.once("book", ask_courier, "here", idempotency_key=ctx.idempotency_key)
    number: int = booking.number  # error
    await ctx.commit(record, cmd)  # error
    await ctx.commit(record, cmd, number)  # error
    ctx.execute("SELECT 1")  # error
    return await ctx.commit(record, cmd, booking)


@payments.handle
async def commits_something_else(ctx: Context, cmd: CancelCourier) -> None:
    book = BookCourier(order_id=cmd.order_id, address="here")
    none: None = await ctx.commit(record, book, Booking("C-1"))  # error
    return none


def yields_numbers(db: Db) -> Iterable[int]:
    yield len(db.execute("SELECT 1"))


def takes_a_message(tx: Tx, order: PlaceOrder) -> Iterable[str]:
    yield order.order_id


payments.invariant("numbers")(yields_numbers)  # error
payments.invariant("two parameters")(takes_a_message)  # error
payments.invariant("when", when="sometimes")  # error
