"""Payments: authorises a charge at most once for an order, then takes or returns the money."""

from collections.abc import Iterable

from outboxd import Db, Participant, Reject, Tx, Unrecoverable

from .messages import AuthorizePayment, CapturePayment, PaymentAuthorized, VoidPayment

LIMIT_CENTS = 100_000

payments = Participant(
    "payments",
    schema="""
    CREATE TABLE charge (
        order_id TEXT PRIMARY KEY,
        cents    INTEGER NOT NULL CHECK (cents > 0),
        state    TEXT NOT NULL CHECK (state IN ('authorized', 'captured', 'voided'))
    ) STRICT;
    CREATE TABLE ledger (              -- the money that was really taken
        order_id TEXT NOT NULL,
        cents    INTEGER NOT NULL
    ) STRICT;
    """,
)


@payments.handle
def authorize(tx: Tx, cmd: AuthorizePayment) -> PaymentAuthorized:
    """Holds the money, or says no."""
    if cmd.cents > LIMIT_CENTS:
        raise Reject("over the limit")
    tx.execute("INSERT INTO charge VALUES (?, ?, 'authorized')", (cmd.order_id, cmd.cents))
    event = PaymentAuthorized(order_id=cmd.order_id, cents=cmd.cents)
    tx.publish(event)
    return event


@payments.handle
def void(tx: Tx, cmd: VoidPayment) -> None:
    """Changes nothing if nothing is held: an undo also comes when nobody knows if its step ran."""
    tx.execute(
        "UPDATE charge SET state = 'voided' WHERE order_id = ? AND state = 'authorized'",
        (cmd.order_id,),
    )


@payments.handle
def capture(tx: Tx, cmd: CapturePayment) -> None:
    """Takes the money that is held; without any, a person must look (a dead letter)."""
    held = tx.one(
        "UPDATE charge SET state = 'captured' WHERE order_id = ? AND state = 'authorized'"
        " RETURNING cents",
        (cmd.order_id,),
    )
    if held is None:
        raise Unrecoverable(f"nothing is held for order {cmd.order_id}")
    tx.execute("INSERT INTO ledger VALUES (?, ?)", (cmd.order_id, held[0]))


@payments.invariant("an order is charged at most once")
def charged_once(db: Db) -> Iterable[str]:
    """Compares the ledger with itself."""
    for order_id, times in db.execute(
        "SELECT order_id, count(*) FROM ledger GROUP BY order_id HAVING count(*) > 1"
    ):
        yield f"order {order_id} was charged {times} times"


@payments.invariant("nothing voided is captured")
def voided_is_free(db: Db) -> Iterable[str]:
    """Compares the ledger with the charges."""
    for (order_id,) in db.execute(
        "SELECT order_id FROM ledger JOIN charge USING (order_id) WHERE state = 'voided'"
    ):
        yield f"order {order_id} was voided, and its money was taken"
