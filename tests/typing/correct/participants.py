"""Handlers, effects, a saga and invariants, as DESIGN.md shows them."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import assert_type

from outboxd import (
    CallFailed,
    Cancelled,
    Child,
    Context,
    Db,
    MessageDeadLettered,
    Participant,
    Policy,
    Reject,
    Rejected,
    Retry,
    Saga,
    TimedOut,
    Tx,
    Unrecoverable,
)
from tests.typing.correct.messages import (
    AuthorizePayment,
    BookCourier,
    Booking,
    CancelCourier,
    OrderCompleted,
    PaymentAuthorized,
    PlaceOrder,
    Tick,
    VoidPayment,
)


class Courier:
    async def book(self, address: str, *, idempotency_key: str) -> Booking:
        return Booking(f"{address} {idempotency_key}")


@asynccontextmanager
async def open_courier() -> AsyncIterator[Courier]:
    yield Courier()


payments = Participant("payments", schema="CREATE TABLE charge (order_id TEXT PRIMARY KEY) STRICT")
shipping = Participant("shipping", migrations="migrations", lifespan=open_courier)
orders = Participant("orders")


@payments.handle
def authorize(tx: Tx, cmd: AuthorizePayment) -> PaymentAuthorized:
    if cmd.cents > 100_000:
        raise Reject("over the limit")
    changed: int = tx.execute("INSERT INTO charge VALUES (?)", (cmd.order_id,)).changed
    if changed != 1:
        raise Unrecoverable("no row")
    event = PaymentAuthorized(order_id=cmd.order_id, cents=cmd.cents)
    tx.publish(event)
    tx.send(VoidPayment(order_id=cmd.order_id), delay="1h")
    return event


@payments.handle(retry=Policy(attempts=3), hold_key=True)
def void(tx: Tx, cmd: VoidPayment) -> None:
    step = tx.step
    if step is not None and not step.known:
        raise Retry(after=1.5)


@payments.handle(since="retained")
def watch(tx: Tx, event: OrderCompleted) -> None:
    tx.execute("SELECT :id", {"id": event.order_id})


@payments.handle
def alert(tx: Tx, event: MessageDeadLettered) -> None:
    tx.execute("SELECT ?", (event.error,))


@shipping.handle(timeout="5s", concurrency=4, retry=Policy(attempts=2))
async def book(ctx: Context, cmd: BookCourier) -> Booking:
    courier: Courier = ctx.resource
    booking = await ctx.once("book", courier.book, cmd.address, idempotency_key=ctx.idempotency_key)
    assert_type(booking, Booking)
    return await ctx.commit(record, cmd, booking)


def record(tx: Tx, cmd: BookCourier, booking: Booking) -> Booking:
    tx.execute("INSERT INTO booking VALUES (?, ?)", (cmd.order_id, booking.number))
    return booking


@shipping.handle
async def cancel(ctx: Context, cmd: CancelCourier) -> None:
    assert ctx.step is not None
    assert_type(ctx.step.message_id, str)


@orders.saga
async def fulfil(saga: Saga, order: PlaceOrder) -> OrderCompleted:
    created = await saga.run(create_order, order, priority=2)
    assert_type(created, int)
    saga.undo(fail_order, order.order_id)
    authorized = await saga.call(
        AuthorizePayment(order_id=order.order_id, cents=order.cents),
        undo=VoidPayment(order_id=order.order_id),
        on_dead="fail",
    )
    assert_type(authorized, PaymentAuthorized)
    try:
        booking = await saga.call(
            BookCourier(order_id=order.order_id, address=order.address),
            undo=CancelCourier(order_id=order.order_id),
            timeout="2m",
        )
    except (Rejected, CallFailed, Cancelled) as no:
        saga.fail(no.reason)
    except TimedOut as late:
        saga.fail(f"{late.command}: {late.timeout_s}")
    child = await saga.start(
        AuthorizePayment(order_id="o-2", cents=1), undo=VoidPayment(order_id="o-2")
    )
    assert_type(child, Child[PaymentAuthorized])
    assert_type(await child.result(timeout="1h"), PaymentAuthorized)
    saga.point_of_no_return()
    await saga.sleep("1m")
    await saga.send(VoidPayment(order_id=str(saga.uuid())), delay=2.5)
    completed = OrderCompleted(order_id=order.order_id, number=booking.number)
    await saga.publish(completed)
    return completed


@orders.saga(version=2, again="refuse")
async def count(saga: Saga, tick: Tick) -> int:
    await saga.call(VoidPayment(order_id="o-1"))
    pay = AuthorizePayment(order_id="o-1", cents=1)
    paid, nothing = await saga.all(saga.call(pay), saga.sleep(1), on_error="wait")
    assert_type(paid, PaymentAuthorized)
    assert_type(nothing, None)
    assert_type(await saga.all(*[saga.call(pay)]), tuple[PaymentAuthorized, ...])
    match await saga.race(saga.call(pay), saga.all(saga.sleep(1), saga.call(pay))):
        case (0, first):
            assert_type(first, PaymentAuthorized)
        case (1, both):
            assert_type(both, tuple[None, PaymentAuthorized])
    return saga.now().year


def create_order(tx: Tx, order: PlaceOrder, priority: int = 1) -> int:
    return tx.execute("INSERT INTO orders VALUES (?)", (order.order_id,)).changed + priority


def fail_order(tx: Tx, order_id: str) -> None:
    tx.execute("DELETE FROM orders WHERE order_id = ?", (order_id,))


@orders.invariant("an order is charged at most once", when="idle")
def charged_once(db: Db) -> Iterable[str]:
    for (order_id,) in db.of("payments").execute("SELECT order_id FROM charge"):
        yield f"order {order_id}"


# A decorator gives back what it decorates: a test calls the function itself.
def call_directly(tx: Tx) -> None:
    assert_type(authorize(tx, AuthorizePayment(order_id="o-1", cents=1)), PaymentAuthorized)
    assert_type(list(charged_once(tx)), list[str])
