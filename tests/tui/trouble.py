"""A shop in which everything that can go wrong goes wrong for somebody: what the dashboard is for.

By the last digit of its number an order succeeds, is rejected and undone, waits for a card that
does not answer, is stuck on a courier that is down, sleeps, or runs.
"""

import anyio

from outboxd import Command, Context, Participant, Policy, Reject, Saga, Tx

SLOWLY = Policy(attempts=8, base_s=6.0, factor=1.5)
BRIEFLY = Policy(attempts=3, base_s=0.1)


class PlaceOrder(Command[None], to="orders", key="order_id"):
    order_id: str
    cents: int
    zone: str


class ReserveStock(Command[None], to="stock", key="order_id"):
    order_id: str


class ReleaseStock(Command[None], to="stock", key="order_id"):
    order_id: str


class ChargeCard(Command[str], to="payments", key="order_id", timeout="6m"):
    order_id: str
    cents: int


class RefundCard(Command[None], to="payments", key="order_id", timeout="6m"):
    order_id: str


class BookCourier(Command[str], to="courier", key="order_id", timeout="6m"):
    order_id: str
    zone: str


class CardTimeout(Exception):
    """The bank is silent."""


class CourierDown(Exception):
    """The courier's server is."""


orders = Participant("orders", schema="")
stock = Participant("stock", schema="")
payments = Participant("payments", schema="")
courier = Participant("courier", schema="")


def digit(order_id: str) -> int:
    return int(order_id[-1])


@orders.saga
async def fulfil(saga: Saga, order: PlaceOrder) -> None:
    await saga.call(
        ReserveStock(order_id=order.order_id), undo=ReleaseStock(order_id=order.order_id)
    )
    await saga.call(
        ChargeCard(order_id=order.order_id, cents=order.cents),
        undo=RefundCard(order_id=order.order_id),
    )
    if digit(order.order_id) == 8:
        await saga.sleep("2h")
    elif digit(order.order_id) < 5:
        await saga.sleep(int(order.order_id[-4:]) * 7 % 41 / 3)
    await saga.call(BookCourier(order_id=order.order_id, zone=order.zone))


@stock.handle
def reserve(tx: Tx, cmd: ReserveStock) -> None:
    """There is enough."""


@stock.handle
def release(tx: Tx, cmd: ReleaseStock) -> None:
    """There was enough."""


@payments.handle(retry=SLOWLY, timeout="20s")
async def charge(ctx: Context, cmd: ChargeCard) -> str:
    if digit(cmd.order_id) == 6:
        raise CardTimeout("no answer from card-gw after 5.0 s")
    if digit(cmd.order_id) == 9 and cmd.cents > 9000:
        await anyio.sleep_forever()  # a bank that takes its time; the attempt has a limit
    return f"ch-{cmd.order_id}"


@payments.handle(retry=SLOWLY)
async def refund(ctx: Context, cmd: RefundCard) -> None:
    if cmd.order_id[-2] in "13":
        raise CardTimeout("no answer from card-gw after 5.0 s")


@courier.handle(retry=BRIEFLY)
async def book(ctx: Context, cmd: BookCourier) -> str:
    if digit(cmd.order_id) == 7:
        raise CourierDown("503 from api.courier after 5.0 s")
    if digit(cmd.order_id) == 5:
        raise Reject(f"no courier serves zone {cmd.zone}")
    return f"c-{cmd.order_id}"
