"""Notifications: mails the customer how the order ended; it subscribes, nobody calls it."""

from collections.abc import Iterable

from outboxd import Context, Db, Participant, Policy, Tx
from plugins.orders.messages import OrderCompleted, OrderFailed

from .mailer import Mailer, open_mailer

BRIEFLY = Policy(attempts=3, base_s=0.05)

notifications = Participant(
    "notifications",
    schema="""
    CREATE TABLE mail (
        order_id TEXT NOT NULL,
        email    TEXT NOT NULL,
        subject  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX mail_order ON mail (order_id);
    """,
    lifespan=open_mailer,
)


@notifications.handle(retry=BRIEFLY)
async def completed(ctx: Context, event: OrderCompleted) -> None:
    """Good news."""
    await mail(ctx, event.order_id, event.email, f"Your parcel {event.shipment} is on its way")


@notifications.handle(retry=BRIEFLY)
async def failed(ctx: Context, event: OrderFailed) -> None:
    """Bad news."""
    await mail(ctx, event.order_id, event.email, f"We could not fill your order: {event.reason}")


async def mail(ctx: Context, order_id: str, email: str, subject: str) -> None:
    """Sends the mail, then records it."""
    mailer: Mailer = ctx.resource
    await ctx.once("mail", mailer.send, email, subject, idempotency_key=ctx.idempotency_key)
    await ctx.commit(record, order_id, email, subject)


def record(tx: Tx, order_id: str, email: str, subject: str) -> None:
    """The one transaction of a mail."""
    tx.execute("INSERT INTO mail VALUES (?, ?, ?)", (order_id, email, subject))


@notifications.invariant("a customer hears of an order once")
def mailed_once(db: Db) -> Iterable[str]:
    """Counts the mails of each order."""
    for order_id, times in db.execute(
        "SELECT order_id, count(*) FROM mail GROUP BY order_id HAVING count(*) > 1"
    ):
        yield f"order {order_id} was mailed {times} times"
