"""Wrong: which way the saga goes depends on a counter of the process, which a restart forgets."""

from outboxd import Command, Participant, Saga, Tx

shop = Participant("shop")
served = {"orders": 0}


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


class Pack(Command[None], to="shop", key="order_id"):
    order_id: str


class Gift(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    served["orders"] += 1
    if served["orders"] % 2 == 0:
        await saga.call(Gift(order_id=order.order_id))
    await saga.call(Pack(order_id=order.order_id))


@shop.handle
def pack(tx: Tx, cmd: Pack) -> None:
    pass


@shop.handle
def gift(tx: Tx, cmd: Gift) -> None:
    pass


shop.example(Place(order_id="o-1"))


async def fulfil_rightly(saga: Saga, order: Place) -> None:
    if saga.uuid().int % 2 == 0:
        await saga.call(Gift(order_id=order.order_id))
    await saga.call(Pack(order_id=order.order_id))


RIGHT = {fulfil: fulfil_rightly}
