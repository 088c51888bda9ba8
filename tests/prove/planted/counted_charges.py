"""Wrong: the bank is called beside ``ctx.once`` and without a key.

The bank charges each time it is called; a commit that fails calls it again. The simulated bank
keeps count and says so.
"""

from collections import Counter
from collections.abc import Iterable

from outboxd import Command, Context, Participant, Tx

shop = Participant("shop", schema="CREATE TABLE paid (order_id TEXT PRIMARY KEY) STRICT;")


class Pay(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.fake
class Bank:
    """Charges once for each key, and each time without one."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.charges: Counter[str] = Counter()

    async def charge(self, order_id: str, *, idempotency_key: str | None = None) -> None:
        if idempotency_key is None or idempotency_key not in self.keys:
            self.charges[order_id] += 1
            self.keys.add(idempotency_key or "")

    def violations(self) -> Iterable[str]:
        for order_id, times in self.charges.items():
            if times > 1:
                yield f"the bank charged order {order_id} {times} times"


@shop.handle
async def pay(ctx: Context, cmd: Pay) -> None:
    await ctx.resource.charge(cmd.order_id)
    await ctx.commit(record, cmd)


def record(tx: Tx, cmd: Pay) -> None:
    tx.execute("INSERT INTO paid VALUES (?)", (cmd.order_id,))


shop.example(Pay(order_id="o-1"))


async def pay_rightly(ctx: Context, cmd: Pay) -> None:
    key = ctx.idempotency_key
    await ctx.once("charge", ctx.resource.charge, cmd.order_id, idempotency_key=key)
    await ctx.commit(record, cmd)


RIGHT = {pay: pay_rightly}
