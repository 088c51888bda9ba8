"""Wrong: the saga waits for ten years. That is no end."""

from outboxd import Command, Participant, Saga

shop = Participant("shop")


class Warrant(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.saga
async def warrant(saga: Saga, order: Warrant) -> None:
    await saga.sleep("3650d")


shop.example(Warrant(order_id="o-1"))


async def warrant_rightly(saga: Saga, order: Warrant) -> None:
    await saga.sleep("14d")


RIGHT = {warrant: warrant_rightly}
