"""Three participants for tests: a desk of sagas, a worker of transactions, a courier of effects.

What each of them does is in the hands of the test: ``on_do`` and its like are called first and may
raise or wait; then a row says that it was done. The tables count, so that twice is seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from outboxd import (
    Command,
    Context,
    Event,
    Participant,
    Policy,
    Reject,
    Rejected,
    Retry,
    Saga,
    Tx,
)
from outboxd.memory_stream import MemoryStream
from outboxd.message import (
    Envelope,
    Message,
    decode_envelope,
    encode,
    encode_raw,
    in_stream,
    key_of,
)
from outboxd.monitor import audit
from outboxd.testing import FakeClock, FaultyStream, Harness, running, wait_until
from tests.promises.books import Books

BRIEF = Policy(attempts=3, base_s=0.01)
LIMIT_S = 40.0
"""A test that waits for what never comes ends with an error, and not with a stuck loop."""

PATIENT_S = 25 * 3600.0
"""A little more than the time after which nobody is asked again."""


class Go(Command[str], to="desk", key="id", timeout="10m"):
    """Starts the saga of a test."""

    id: str


class Do(Command[str], to="worker", key="id", timeout="60s"):
    """A step that is a transaction."""

    id: str
    step: str = "a"


class Undo(Command[None], to="worker", key="id"):
    """Its undo."""

    id: str
    step: str = "a"


class Act(Command[str], to="courier", key="id", timeout="60s"):
    """A step that is an effect."""

    id: str
    step: str = "x"


class Unact(Command[None], to="courier", key="id"):
    """Its undo."""

    id: str
    step: str = "x"


class Done(Event, source="worker", key="id"):
    """The worker did a step."""

    id: str
    step: str


class Ask(Command[str], to="callers", key="name", timeout="1h"):
    """Starts a saga that does nothing but start another."""

    name: str
    id: str


LOG = "CREATE TABLE log (n INTEGER PRIMARY KEY, id TEXT NOT NULL, what TEXT NOT NULL) STRICT;"


def write(tx: Tx, id: str, what: str) -> str:
    """One line in the log of a participant."""
    tx.execute("INSERT INTO log (id, what) VALUES (?, ?)", (id, what))
    return what


def nothing(*_: Any) -> None:
    """A hook that does nothing."""


async def at_once(*_: Any) -> None:
    """An effect's hook that does nothing."""


class Gate:
    """Where an effect waits: ``reached`` once it does, until the test sets ``open``."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.open = anyio.Event()

    async def __call__(self, *_: Any) -> None:
        self.reached.set()
        await self.open.wait()


class Cast:
    """The participants, new for each test; ``desk`` gets its saga from the test."""

    def __init__(self, concurrency: int = 16) -> None:
        self.on_do: Callable[[Tx, Do], None] = nothing
        self.on_undo: Callable[[Tx, Undo], None] = nothing
        self.on_act: Callable[[Context, Act], Awaitable[Any]] = at_once
        self.on_unact: Callable[[Context, Unact], Awaitable[Any]] = at_once
        self.undone: list[tuple[str, bool, bytes | None]] = []
        self.desk = Participant("desk", schema=LOG)
        self.worker = self._worker()
        self.courier = self._courier(concurrency)

    @property
    def participants(self) -> list[Participant]:
        return [self.desk, self.worker, self.courier]

    def refuse_step(self, step: str) -> None:
        """The worker rejects a step."""

        def refuse(tx: Tx, cmd: Do) -> None:
            if cmd.step == step:
                raise Reject("enough")

        self.on_do = refuse

    def break_step(self, step: str) -> None:
        """The worker has a bug that shows at a step."""

        def fail(tx: Tx, cmd: Do) -> None:
            if cmd.step == step:
                write(tx, cmd.id, "what a failure leaves behind")
                raise RuntimeError(f"step {step} is broken")

        self.on_do = fail

    def gate_effects(self, *, undo: bool = False) -> Gate:
        """The courier's steps (or undos) wait until the gate is opened."""
        gate = Gate()
        if undo:
            self.on_unact = gate
        else:
            self.on_act = gate
        return gate

    def later(self, *_: Any) -> None:
        """As a hook of the worker: it asks to be tried again in 15 s."""
        raise Retry("not yet", after=15)

    async def outside(self) -> None:
        """What a saga must not await."""
        await anyio.lowlevel.checkpoint()

    def mend(self) -> None:
        """Every hook does nothing again."""
        self.on_do = self.on_undo = nothing
        self.on_act = self.on_unact = at_once

    def callers(self) -> Participant:
        """A participant whose saga starts the desk's, and tells what it was answered."""
        callers = Participant("callers")

        @callers.saga
        async def caller(saga: Saga, ask: Ask) -> str:
            try:
                return await saga.call(Go(id=ask.id))
            except Rejected as no:
                return f"no: {no.reason}"

        return callers

    def _worker(self) -> Participant:
        worker = Participant("worker", schema=LOG)

        @worker.handle(retry=BRIEF)
        def do(tx: Tx, cmd: Do) -> str:
            self.on_do(tx, cmd)
            tx.publish(Done(id=cmd.id, step=cmd.step))
            return write(tx, cmd.id, f"do {cmd.step}")

        @worker.handle(retry=BRIEF)
        def undo(tx: Tx, cmd: Undo) -> None:
            self._note_step(tx)
            self.on_undo(tx, cmd)
            write(tx, cmd.id, f"undo {cmd.step}")

        return worker

    def _courier(self, concurrency: int) -> Participant:
        courier = Participant("courier", schema=LOG)

        @courier.handle(retry=BRIEF, concurrency=concurrency)
        async def act(ctx: Context, cmd: Act) -> str:
            await self.on_act(ctx, cmd)
            return await ctx.commit(write, cmd.id, f"act {cmd.step}")

        @courier.handle(retry=BRIEF)
        async def unact(ctx: Context, cmd: Unact) -> None:
            self._note_step(ctx)
            await self.on_unact(ctx, cmd)
            await ctx.commit(forget, cmd.id, cmd.step)

        return courier

    def _note_step(self, handle: Tx | Context) -> None:
        step = handle.step
        assert step is not None
        result = None if step.result is None else bytes(step.result)
        self.undone.append((step.message_id, step.known, result))


def forget(tx: Tx, id: str, step: str) -> None:
    """The transaction of the courier's undo."""
    write(tx, id, f"unact {step}")


async def until_step(harness: Harness, saga_id: str, step: str) -> None:
    """Waits until a saga has come to a step."""

    async def is_there() -> bool:
        return (await harness.saga(saga_id)).step == step

    await wait_until(is_there, f"{saga_id} is at {step}")


async def log(harness: Harness, participant: str, id: str | None = None) -> list[str]:
    """What a participant did, in order: for one key, or for all."""
    found: list[str] = await harness.column(
        participant, "SELECT what FROM log WHERE ? IS NULL OR id = ? ORDER BY n", id, id
    )
    return found


def envelope(message: Message, message_id: str, **attributes: Any) -> bytes:
    """A document without numbers, as a foreign producer writes it."""
    kind = "event" if isinstance(message, Event) else "command"
    said = {
        "specversion": "1.0",
        "id": message_id,
        "type": type(message).__name__,
        "source": "stranger",
        "time": datetime(2027, 1, 15, tzinfo=UTC),
        "subject": key_of(message),
        "data": encode_raw(message),
        "kind": kind,
    }
    return encode(said | attributes)


def sent_to(harness: Harness, participant: str) -> list[Envelope]:
    """What was published to a participant, in order, repetitions too."""
    stream = in_stream(participant)
    return [decode_envelope(body) for to, body in harness.stream.seen if to == stream]


async def letters(harness: Harness, participant: str) -> list[tuple[str, str]]:
    """(message type, state) of each dead letter."""
    sql = "SELECT type, state FROM outboxd_dead ORDER BY n"
    return [(row[0], row[1]) for row in await harness.rows(participant, sql)]


def new_stream(clock: FakeClock) -> FaultyStream:
    """A broker for one test; see the fixture ``on_each_broker``."""
    return FaultyStream(MemoryStream(clock))


@asynccontextmanager
async def hosting(
    *participants: Participant,
    data: Path,
    clock: FakeClock | None = None,
    stream: FaultyStream | None = None,
    chance: Callable[[], float] = lambda: 0.0,
    drain_s: float = 5.0,
) -> AsyncIterator[Harness]:
    """``running``, and at its end the books must be right."""
    clock = clock or FakeClock()
    stream = stream or new_stream(clock)
    async with running(
        *participants, data=data, clock=clock, stream=stream, chance=chance, drain_s=drain_s
    ) as harness:
        with anyio.fail_after(LIMIT_S):
            yield harness
    assert Books(data).errors() == []
    assert audit(data) == []
