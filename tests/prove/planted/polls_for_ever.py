"""Wrong: the saga asks again and again, without an end, for something that may never come."""

from outboxd import Command, Participant, Saga, Tx

shop = Participant("shop")


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class IsPaid(Command[bool], to="shop", key="order_id"):
    order_id: str


@shop.saga
async def await_payment(saga: Saga, order: Place) -> None:
    while not await saga.call(IsPaid(order_id=order.order_id)):
        await saga.sleep("1m")


@shop.handle
def is_paid(tx: Tx, cmd: IsPaid) -> bool:
    return False


shop.example(Place(order_id="o-1"))


async def await_payment_rightly(saga: Saga, order: Place) -> None:
    for _ in range(3):
        if await saga.call(IsPaid(order_id=order.order_id)):
            return
        await saga.sleep("1m")
    saga.fail("it was not paid in time")


RIGHT = {await_payment: await_payment_rightly}
