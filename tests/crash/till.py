"""An application that embeds outboxd and charges a card outside, to be killed in the middle.

``python -m tests.crash.till DATA start|result|cancel``: starts a saga and says its id; or finds it
again by that id. What happens outside is a line of a file in the data directory's parent: a charge
hangs after it was made until there is a file ``go``, and fails while there is one called ``down``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from outboxd import Cancelled, Command, Context, Participant, Policy, Runtime, Saga
from outboxd.testing import wait_until

SAGA = "desk/sell/1"


class Sell(Command[str], to="desk", key="id"):
    """Starts the saga."""

    id: str


class Charge(Command[str], to="till", key="id", timeout="10m"):
    """Acts outside."""

    id: str


class Refund(Command[None], to="till", key="id"):
    """Undoes that."""

    id: str


desk = Participant("desk")
till = Participant("till")
outside = Path(sys.argv[1]).parent if len(sys.argv) > 1 else Path()


@desk.saga
async def sell(saga: Saga, cmd: Sell) -> str:
    return await saga.call(Charge(id=cmd.id), undo=Refund(id=cmd.id))


@till.handle(retry=Policy(attempts=20, base_s=0.1, cap_s=0.2), timeout="20s")
async def charge(ctx: Context, cmd: Charge) -> str:
    return await ctx.once("charge", charged, ctx.idempotency_key)


@till.handle
async def refund(ctx: Context, cmd: Refund) -> None:
    assert ctx.step is not None
    say(f"refunded {ctx.step.known}")


async def charged(key: str) -> str:
    """The provider: it has charged before it answers."""
    if (outside / "down").exists():
        say("down")
        raise ConnectionError("the provider is away")
    say(f"charged {key}")
    await wait_until((outside / "go").exists, "the provider answers", within_s=60)
    return "paid"


def say(line: str) -> None:
    with (outside / "ledger").open("a") as ledger:
        ledger.write(f"{line}\n")


async def main(verb: str) -> None:
    async with Runtime([desk, till], data=sys.argv[1]) as runtime:
        if verb == "start":
            handle = await runtime.start(Sell(id="1"))
        else:
            handle = await runtime.handle(SAGA)
        sys.stderr.write(f"{handle.id}\n")
        if verb == "cancel":
            await handle.cancel("the customer left")
        try:
            sys.stdout.write(f"{await handle.result()}\n")
        except Cancelled as error:
            sys.stdout.write(f"cancelled: {error}\n")


if __name__ == "__main__":
    anyio.run(main, sys.argv[2])
