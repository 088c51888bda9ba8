"""Orders: the saga that takes an order from payment over stock to a parcel, or back."""

from collections import Counter
from collections.abc import Iterable

from outboxd import Db, Participant, Rejected, Saga, Tx
from plugins.inventory.messages import ReleaseStock, ReserveStock
from plugins.payments.messages import AuthorizePayment, CapturePayment, VoidPayment
from plugins.shipping.messages import CancelShipment, ScheduleShipment

from .messages import OrderCompleted, OrderFailed, PlaceOrder

orders = Participant(
    "orders",
    schema="""
    CREATE TABLE orders (
        order_id TEXT PRIMARY KEY,
        email    TEXT NOT NULL,
        cents    INTEGER NOT NULL,
        state    TEXT NOT NULL CHECK (state IN ('placed', 'completed', 'failed')),
        reason   TEXT,
        shipment TEXT
    ) STRICT;
    """,
)


@orders.saga
async def fulfil(saga: Saga, order: PlaceOrder) -> OrderCompleted:
    """Each step and its undo; whatever ends the saga early undoes what was done, last first."""
    order_id = order.order_id
    await saga.run(create_order, order)
    saga.undo(fail_order, order_id)
    try:
        await saga.call(
            AuthorizePayment(order_id=order_id, cents=order.cents),
            undo=VoidPayment(order_id=order_id),
        )
        await saga.call(
            ReserveStock(order_id=order_id, sku=order.sku, quantity=order.quantity),
            undo=ReleaseStock(order_id=order_id),
        )
        booking = await saga.call(
            ScheduleShipment(order_id=order_id, zone=order.zone),
            undo=CancelShipment(order_id=order_id),
        )
    except Rejected as no:
        await saga.run(note_reason, order_id, no.reason)
        raise
    saga.point_of_no_return()
    await saga.call(CapturePayment(order_id=order_id))
    await saga.run(complete_order, order_id, booking.number)
    completed = OrderCompleted(order_id=order_id, email=order.email, shipment=booking.number)
    await saga.publish(completed)
    return completed


def create_order(tx: Tx, order: PlaceOrder) -> None:
    """The order exists."""
    tx.execute(
        "INSERT INTO orders (order_id, email, cents, state) VALUES (?, ?, ?, 'placed')",
        (order.order_id, order.email, order.cents),
    )


def note_reason(tx: Tx, order_id: str, reason: str) -> None:
    """Why it is about to fail: for the customer, not for correctness."""
    tx.execute("UPDATE orders SET reason = ? WHERE order_id = ?", (reason, order_id))


def fail_order(tx: Tx, order_id: str) -> None:
    """The last undo: by now payment, stock and courier are as they were."""
    for email, reason in tx.execute(
        "UPDATE orders SET state = 'failed', reason = coalesce(reason, 'we could not process it')"
        " WHERE order_id = ? RETURNING email, reason",
        (order_id,),
    ):
        tx.publish(OrderFailed(order_id=order_id, email=email, reason=reason))


def complete_order(tx: Tx, order_id: str, shipment: str) -> None:
    """The order is done."""
    tx.execute(
        "UPDATE orders SET state = 'completed', shipment = ? WHERE order_id = ?",
        (shipment, order_id),
    )


orders.example(
    PlaceOrder(order_id="o-1", email="ada@example", sku="mug", quantity=1, cents=1500, zone="DE")
)


@orders.invariant("every order ended", when="idle")
def all_ended(db: Db) -> Iterable[str]:
    """Nothing under way means nothing half done."""
    for (order_id,) in db.execute("SELECT order_id FROM orders WHERE state = 'placed'"):
        yield f"order {order_id} neither completed nor failed"


@orders.invariant("a completed order has exactly one shipment", when="idle")
def shipped_once(db: Db) -> Iterable[str]:
    """Compares with shipping."""
    shipments = Counter(
        row[0] for row in db.of("shipping").execute("SELECT order_id FROM shipment")
    )
    for (order_id,) in db.execute("SELECT order_id FROM orders WHERE state = 'completed'"):
        if shipments[order_id] != 1:
            yield f"order {order_id} is completed and has {shipments[order_id]} shipments"


@orders.invariant("a failed order holds no charge, no stock and no shipment", when="idle")
def nothing_left(db: Db) -> Iterable[str]:
    """Compares with everyone who was called."""
    failed = {row[0] for row in db.execute("SELECT order_id FROM orders WHERE state = 'failed'")}
    for participant, what, held in (
        ("payments", "a charge", "SELECT order_id FROM charge WHERE state <> 'voided'"),
        ("inventory", "stock", "SELECT order_id FROM reservation"),
        ("shipping", "a shipment", "SELECT order_id FROM shipment"),
    ):
        for (order_id,) in db.of(participant).execute(held):
            if order_id in failed:
                yield f"order {order_id} failed and still holds {what}"
