"""Wrong: the saga's code asks the machine for the time; a replay gets another answer."""

import time

from outboxd import Command, Participant, Saga, Tx

shop = Participant("shop")


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Pay(Command[None], to="shop", key="order_id"):
    order_id: str
    not_before: float


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    await saga.call(Pay(order_id=order.order_id, not_before=time.time()))


@shop.handle
def pay(tx: Tx, cmd: Pay) -> None:
    pass


shop.example(Place(order_id="o-1"))


async def fulfil_rightly(saga: Saga, order: Place) -> None:
    await saga.call(Pay(order_id=order.order_id, not_before=saga.now().timestamp()))


RIGHT = {fulfil: fulfil_rightly}
