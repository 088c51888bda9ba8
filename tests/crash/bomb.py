"""A plugin for the tests: messages that kill the process, hang, or take their time.

Whatever has ``n="bad"`` does it; everything else is noted in the table ``seen``.
"""

import os
import threading
from pathlib import Path

import anyio

from outboxd import Command, Context, Participant, Policy, Saga, Tx

DEATH = 9


class Explode(Command[None], to="bomb", key="n"):
    """Kills the process in a transaction."""

    n: str


class ExplodeOutside(Command[None], to="bomb", key="n"):
    """Kills the process on the event loop."""

    n: str


class ExplodeLater(Command[None], to="bomb", key="key"):
    """Fails once, so that what follows with its key waits; then kills the process."""

    n: str
    key: str = "one"


class Stall(Command[None], to="bomb", key="n"):
    """Never returns."""

    n: str


class Hang(Command[None], to="bomb", key="n"):
    """Waits for ever on the event loop."""

    n: str


class Linger(Command[None], to="bomb", key="n"):
    """Says in a file that it has begun, and takes until another is there."""

    n: str


class Light(Command[None], to="fuse", key="n"):
    """Starts a saga that kills the process ``at`` some point, or calls what does."""

    n: str
    at: str


bomb = Participant("bomb", schema="CREATE TABLE seen (n TEXT NOT NULL) STRICT;")
fuse = Participant("fuse")


def touch(n: str) -> None:
    """Dies for the bad one, until somebody has mended it."""
    if n == "bad" and not os.environ.get("DEFUSED"):
        os._exit(DEATH)


def note(tx: Tx, n: str) -> None:
    """Once for each message."""
    tx.execute("INSERT INTO seen VALUES (?)", (n,))


@bomb.handle
def explode(tx: Tx, cmd: Explode) -> None:
    """Notes only what survives."""
    note(tx, cmd.n)
    touch(cmd.n)


@bomb.handle
async def explode_outside(ctx: Context, cmd: ExplodeOutside) -> None:
    """The same as an effect."""
    touch(cmd.n)
    await ctx.commit(note, cmd.n)


@bomb.handle(retry=Policy(attempts=2, base_s=0.05))
def explode_later(tx: Tx, cmd: ExplodeLater) -> None:
    """The first of its lane fails at its first try, and the others come to wait behind it."""
    if cmd.n == "first" and tx.attempt == 1:
        raise RuntimeError("not yet")
    touch(cmd.n)
    note(tx, cmd.n)


@bomb.handle
def stall(tx: Tx, cmd: Stall) -> None:
    """A thread cannot be stopped from outside."""
    if cmd.n == "bad":
        threading.Event().wait()
    note(tx, cmd.n)


@bomb.handle(timeout="300ms", retry=Policy(attempts=2, base_s=0.05))
async def hang(ctx: Context, cmd: Hang) -> None:
    """A coroutine can."""
    if cmd.n == "bad":
        await anyio.sleep_forever()
    await ctx.commit(note, cmd.n)


@bomb.handle(timeout="50s", retry=Policy(attempts=1))
async def linger(ctx: Context, cmd: Linger) -> None:
    """As long as it takes."""
    enough = Path(os.environ["LINGER_UNTIL"])
    enough.with_name("begun").touch()
    while not enough.exists():  # noqa: ASYNC240 - a look, now and then
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()
    await ctx.commit(note, cmd.n)


@fuse.saga
async def light(saga: Saga, cmd: Light) -> None:
    """``at``: start, timer or reply kill in the saga's own code; others in what it calls."""
    if cmd.at == "start":
        touch(cmd.n)
    elif cmd.at == "timer":
        await saga.sleep("30ms")
        touch(cmd.n)
    elif cmd.at == "reply":
        await saga.call(Explode(n=f"before {cmd.n}"))
        touch(cmd.n)
    elif cmd.at == "def":
        await saga.call(Explode(n=cmd.n))
    elif cmd.at == "async":
        await saga.call(ExplodeOutside(n=cmd.n))
    elif cmd.at == "lane":
        await saga.call(ExplodeLater(n=cmd.n))
