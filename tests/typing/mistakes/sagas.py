"""Mistakes with sagas: a type checker reports each line marked so, and no other."""

from outboxd import Context, Participant, Saga, Tx
from tests.typing.correct.messages import (
    AuthorizePayment,
    BookCourier,
    Booking,
    OrderCompleted,
    PaymentAuthorized,
    PlaceOrder,
    VoidPayment,
)

orders = Participant("orders")

AUTHORIZE = AuthorizePayment(order_id="o-1", cents=1)
AUTHORIZED = PaymentAuthorized(order_id="o-1", cents=1)
VOID = VoidPayment(order_id="o-1")


def create_order(tx: Tx, order: PlaceOrder, priority: int = 1) -> int:
    return tx.execute("INSERT INTO orders VALUES (?)", (order.order_id,)).changed + priority


def fail_order(tx: Tx, order_id: str) -> None:
    tx.execute("DELETE FROM orders WHERE order_id = ?", (order_id,))


def without_tx(order_id: str) -> None: ...


@orders.saga
async def calls_wrongly(saga: Saga, order: PlaceOrder) -> OrderCompleted:
    number: int = await saga.call(AUTHORIZE)  # error
    booking: Booking = await saga.call(AUTHORIZE, undo=VOID)  # error
    nothing: str = await saga.call(VOID)  # error
    not_awaited: PaymentAuthorized = saga.call(AUTHORIZE)  # error
    await saga.call(AUTHORIZED)  # error
    await saga.call(AUTHORIZE, undo=AUTHORIZED)  # error
    await saga.call(AUTHORIZE, undo=fail_order)  # error
    await saga.call(AUTHORIZE, timeout=b"2m")  # error
    await saga.call(AUTHORIZE, on_dead="ignore")  # error
    await saga.send(AUTHORIZED)  # error
    await saga.publish(VOID)  # error
    await saga.start(AUTHORIZED)  # error
    await saga.start(AUTHORIZE, on_cancel="kill")  # error
    started: PaymentAuthorized = await saga.start(AUTHORIZE)  # error
    booking = await (await saga.start(AUTHORIZE)).result()  # error
    await saga.all(AUTHORIZE, saga.sleep(1))  # error
    both: tuple[None, str] = await saga.all(saga.sleep(1), saga.call(AUTHORIZE))  # error
    await saga.race(saga.sleep(1), on_error="ignore")  # error
    AUTHORIZED.order_id = (await saga.call(AUTHORIZE)).order_id  # error
    return OrderCompleted(
        order_id=nothing, number=f"{number} {booking} {not_awaited} {started}{both}"
    )


@orders.saga
async def runs_wrongly(saga: Saga, order: PlaceOrder) -> OrderCompleted:
    await saga.run(create_order)  # error
    await saga.run(create_order, order.order_id)  # error
    await saga.run(create_order, order, priority="high")  # error
    await saga.run(create_order, order, 1, 2)  # error
    await saga.run(without_tx, order.order_id)  # error
    created: str = await saga.run(create_order, order)  # error
    saga.undo(fail_order)  # error
    saga.undo(fail_order, order)  # error
    saga.undo(create_order, order)  # error
    saga.execute("SELECT 1")  # error
    return created  # error


def not_async(saga: Saga, order: PlaceOrder) -> None: ...
async def with_context(ctx: Context, order: PlaceOrder) -> None: ...
async def without_message(saga: Saga) -> None: ...
async def good(saga: Saga, cmd: BookCourier) -> None: ...


orders.saga(not_async)  # error
orders.saga(with_context)  # error
orders.saga(without_message)  # error
orders.saga(again="always")(good)  # error
orders.saga(version=2)(with_context)  # error
