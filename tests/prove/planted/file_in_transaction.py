"""Wrong: a def handler writes a file. A rollback does not take that back, a retry does it again."""

from pathlib import Path

from outboxd import Command, Context, Participant, Tx

shop = Participant("shop", schema="CREATE TABLE invoice (order_id TEXT PRIMARY KEY) STRICT;")


class Invoice(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.handle
def invoice(tx: Tx, cmd: Invoice) -> None:
    tx.execute("INSERT INTO invoice VALUES (?)", (cmd.order_id,))
    Path(f"invoice-{cmd.order_id}.txt").write_text("please pay")


async def write(order_id: str, *, idempotency_key: str) -> None:
    """The printer's client, as it is in production."""
    raise NotImplementedError("no simulation prints")


def record(tx: Tx, cmd: Invoice) -> None:
    tx.execute("INSERT INTO invoice VALUES (?)", (cmd.order_id,))


shop.example(Invoice(order_id="o-1"))


async def invoice_rightly(ctx: Context, cmd: Invoice) -> None:
    await ctx.once("write", write, cmd.order_id, idempotency_key=ctx.idempotency_key)
    await ctx.commit(record, cmd)


RIGHT = {invoice: invoice_rightly}
