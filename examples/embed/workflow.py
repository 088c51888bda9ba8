"""The workflow: an order is paid for and packed, or not at all."""

from outboxd import Command, Participant, Reject, Saga, Tx

shop = Participant(
    "shop",
    schema="CREATE TABLE orders (order_id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT",
)
till = Participant(
    "till",
    schema="CREATE TABLE charge (order_id TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT",
)

LIMIT = 100_000


class PlaceOrder(Command[str], to="shop", key="order_id"):
    """Starts the saga; its result is the order's last state."""

    order_id: str
    cents: int


class Charge(Command[None], to="till", key="order_id"):
    """Takes the money."""

    order_id: str
    cents: int


class Refund(Command[None], to="till", key="order_id"):
    """Gives it back."""

    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: PlaceOrder) -> str:
    """Each await is a durable step."""
    await saga.run(note, order.order_id, "placed")
    await saga.call(
        Charge(order_id=order.order_id, cents=order.cents), undo=Refund(order_id=order.order_id)
    )
    return await saga.run(note, order.order_id, "paid")


def note(tx: Tx, order_id: str, state: str) -> str:
    """A row of the shop, in the transaction that journals the step."""
    tx.execute(
        "INSERT INTO orders VALUES (?, ?) ON CONFLICT (order_id) DO UPDATE SET state = ?",
        (order_id, state, state),
    )
    return state


@till.handle
def charge(tx: Tx, cmd: Charge) -> None:
    """A business "no" is a Reject: the saga undoes what it did."""
    if cmd.cents > LIMIT:
        raise Reject("over the limit")
    tx.execute("INSERT INTO charge VALUES (?, ?)", (cmd.order_id, cmd.cents))


@till.handle
def refund(tx: Tx, cmd: Refund) -> None:
    """Right also where nothing was charged."""
    tx.execute("DELETE FROM charge WHERE order_id = ?", (cmd.order_id,))
