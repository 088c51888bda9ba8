"""Sagas of every kind, each with what is done to it from outside, to be killed at any commit.

``python -m tests.crash.journeys`` reads lines of JSON, one for each process that is wanted, and
says in a line what became of it. Each is a fork of the first, which has imported everything and
opened nothing; it kills itself with SIGKILL right before or right after its n-th commit that
changes something.

What an outsider does is done again by whoever comes after a kill: all of it bears an id.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import msgspec

from outboxd import (
    Cancelled,
    Command,
    Context,
    Event,
    Participant,
    Policy,
    Refused,
    Reject,
    Rejected,
    Retry,
    Runtime,
    Saga,
    TimedOut,
    Tx,
)
from outboxd.clock import SystemClock
from outboxd.memory_stream import MemoryStream
from outboxd.message import encode
from outboxd.store import control, dead, journal
from outboxd.store.control import Request
from outboxd.store.journal import SagaRow
from outboxd.testing import wait_until

LIMIT_S = 40.0
KILLED_S = 60
"""When the kernel ends a process whose loop does not come to its limit any more."""

SHORT = "60ms"
"""What a test waits for on purpose."""

FIRINGS = 3

Side = Literal["before", "after"]
SIDES: tuple[Side, ...] = ("before", "after")


class Order(msgspec.Struct, frozen=True):
    """A wanted process: of which journeys, where, and at which commit it dies (0: never)."""

    journeys: tuple[str, ...]
    data: str
    redis: str | None = None
    dies_at: int = 0
    side: Side = "before"


class Report(msgspec.Struct, frozen=True):
    """How the process of ``data`` ended: its exit code, or below zero the signal; how many commits
    it has made.
    """

    data: str
    code: int
    commits: int = 0


AT_REST = {
    "inbox": "SELECT id, state, error FROM outboxd_inbox",
    "outbox": "SELECT stream, id FROM outboxd_outbox",
    "delayed": "SELECT id FROM outboxd_delayed",
    "call": "SELECT saga, name FROM outboxd_call",
    "waiter": "SELECT saga, id FROM outboxd_waiter",
    "undo": "SELECT saga, name FROM outboxd_undo WHERE state <> 'done'",
    "once": "SELECT id, name FROM outboxd_once",
}
"""What is empty when nothing is under way."""


# What is sent.


class Go(Command[str], to="desk", key="id", timeout="10m"):
    """Starts the saga of a journey, which is its key."""

    id: str


class Sub(Command[str], to="office", key="id", timeout="10m"):
    """Starts a saga of somebody else."""

    id: str


class Unsub(Command[None], to="office", key="id"):
    """Undoes what that has done."""

    id: str


class Word(Command[None], to="desk", key="id"):
    """For the saga to receive."""

    id: str
    by: str


class Do(Command[str], to="worker", key="id"):
    """A step that is a transaction."""

    id: str
    step: str


class Undo(Command[None], to="worker", key="id"):
    """Its undo."""

    id: str
    step: str


class Done(Event, source="worker", key="id"):
    """Of each step that the worker did."""

    id: str
    step: str


class Later(Command[None], to="worker", key="id"):
    """Sent with a delay; passed on with another one."""

    id: str
    hops: int


class Stall(Command[str], to="worker", key="id"):
    """Never answered in time."""

    id: str


class Break(Command[str], to="worker", key="id"):
    """Becomes a dead letter."""

    id: str


class Mend(Command[str], to="worker", key="id"):
    """Becomes a dead letter, until somebody has mended it."""

    id: str


class Slow(Command[str], to="worker", key="id"):
    """Answered after the caller's patience."""

    id: str


class Refuse(Command[str], to="worker", key="id"):
    """Answered with "no"."""

    id: str


class Act(Command[str], to="courier", key="id"):
    """A step that is an effect."""

    id: str
    step: str


class Unact(Command[None], to="courier", key="id"):
    """Its undo."""

    id: str
    step: str


# Who takes it.

LOG = "CREATE TABLE log (n INTEGER PRIMARY KEY, id TEXT NOT NULL, what TEXT NOT NULL) STRICT;"


def write(tx: Tx, id: str, what: str) -> str:
    tx.execute("INSERT INTO log (id, what) VALUES (?, ?)", (id, what))
    return what


def forget(tx: Tx, id: str, what: str) -> None:
    write(tx, id, what)


desk = Participant("desk", schema=LOG)
office = Participant("office", schema=LOG)
worker = Participant("worker", schema=LOG)
courier = Participant("courier", schema=LOG)
ticker = Participant("ticker", schema=LOG)


@desk.saga(receives=(Word, Done))
async def trip(saga: Saga, go: Go) -> str:
    return await JOURNEYS[go.id].saga(saga, go.id)


@office.saga
async def errand(saga: Saga, sub: Sub) -> str:
    await saga.call(Do(id=sub.id, step="errand"), undo=Undo(id=sub.id, step="errand"))
    if sub.id.endswith("slow"):
        await saga.sleep("1h")
    return await saga.run(write, sub.id, "errand done")


@office.handle
def unsub(tx: Tx, cmd: Unsub) -> None:
    write(tx, cmd.id, "errand undone")


@worker.handle
def do(tx: Tx, cmd: Do) -> str:
    tx.publish(Done(id=cmd.id, step=cmd.step))
    return write(tx, cmd.id, f"do {cmd.step}")


@worker.handle
def undo(tx: Tx, cmd: Undo) -> None:
    write(tx, cmd.id, f"undo {cmd.step}")


@worker.handle
def later(tx: Tx, cmd: Later) -> None:
    write(tx, cmd.id, f"later {cmd.hops}")
    if cmd.hops:
        tx.send(Later(id=cmd.id, hops=cmd.hops - 1), delay=SHORT)
    else:
        tx.publish(Done(id=cmd.id, step="last"))


@worker.handle(retry=Policy(attempts=2, base_s=0.01))
def stall(tx: Tx, cmd: Stall) -> str:
    raise Retry("never", after=3000.0)


@worker.handle(retry=Policy(attempts=1))
def broken(tx: Tx, cmd: Break) -> str:
    raise RuntimeError("it is broken")


@worker.handle(retry=Policy(attempts=1))
def mended(tx: Tx, cmd: Mend) -> str:
    if not (place() / "mended").exists():
        raise RuntimeError("it is broken")
    return write(tx, cmd.id, "mended")


@worker.handle
def slow(tx: Tx, cmd: Slow) -> str:
    if tx.attempt == 1:
        raise Retry("not yet", after=0.2)
    return write(tx, cmd.id, "at last")


@worker.handle
def refuse(tx: Tx, cmd: Refuse) -> str:
    raise Reject("enough")


@courier.handle
async def act(ctx: Context, cmd: Act) -> str:
    said = await ctx.once("act", outside, ctx.idempotency_key)
    return await ctx.commit(write, cmd.id, f"{said} {cmd.step}")


@courier.handle
async def unact(ctx: Context, cmd: Unact) -> None:
    await ctx.commit(forget, cmd.id, f"unact {cmd.step}")


@ticker.every("100ms", missed="all")
def tick(tx: Tx) -> None:
    """The first firings, each under its number."""
    if int(tx.message_id.rpartition("#")[2]) <= FIRINGS:
        write(tx, "tick", tx.message_id)


async def outside(key: str) -> str:
    """The world: it may be asked twice, always under the same key."""
    say(key)
    return "act"


def say(line: str) -> None:
    with (place() / "world").open("a") as world:
        world.write(f"{line}\n")


def place() -> Path:
    """What lies outside of the databases lies beside them."""
    return Path(os.environ["OUTBOXD_DATA"])


# Outsiders, who do the same again after a kill.


class Outsider:
    """What is done to one saga from outside."""

    def __init__(self, runtime: Runtime, id: str) -> None:
        self.runtime = runtime
        self.id = id
        self.saga_id = f"desk/trip/{id}"

    async def start(self) -> None:
        await self.runtime.start(Go(id=self.id), message_id=f"start {self.id}")

    async def word(self, by: str = "ann") -> None:
        await self.runtime.send(Word(id=self.id, by=by), message_id=f"{by} to {self.id}")

    async def until(self, step: str) -> None:
        """Until the saga is at a step, or beyond it."""

        def is_there(row: SagaRow) -> bool:
            return row.step == step or row.ending is not None

        await self._look(is_there, step)

    async def until_stuck(self) -> bool:
        """Until a letter holds the saga; False if it has gone on since."""

        def is_there(row: SagaRow) -> bool:
            return row.stuck == "letter" or row.ending is not None

        return (await self._look(is_there, "stuck")).ending is None

    async def cancel(self) -> None:
        try:
            await self.runtime.cancel(self.saga_id, "nobody wants it")
        except Refused as no:
            if "ending" not in no.message and "ended" not in no.message:
                raise

    async def replay(self) -> None:
        """Replays the letter that holds the saga."""
        database = self.runtime.hosted["worker"].database
        letter = await database.read(lambda cx: dead.by_message(cx, f"{self.saga_id}#2"))
        assert letter is not None
        await self.by_hand("dead.replay", {"letters": [letter.n]}, "worker", "")

    async def by_hand(
        self, kind: str, args: object, participant: str = "desk", target: str | None = None
    ) -> None:
        """As an operator does it from another process."""
        request = Request(
            id=f"{kind} {self.id}",
            at=0.0,
            kind=kind,
            participant=participant,
            target=self.saga_id if target is None else target,
            args=encode(args),
            who="ann",
            reason="by hand",
        )
        database = self.runtime.control
        await database.write(lambda cx: control.add_request(cx, request))

        async def is_applied() -> bool:
            found = await database.read(lambda cx: control.get(cx, request.id))
            assert found is not None
            assert found.state != "refused", found.result
            return found.state == "applied"

        await wait_until(is_applied, kind)

    async def until_written(self, participant: str, id: str, count: int) -> None:
        """Until a participant has written so many lines."""
        database = self.runtime.hosted[participant].database
        sql = "SELECT count(*) FROM log WHERE id = ?"

        async def are_there() -> bool:
            found: int = await database.read(lambda cx: cx.execute(sql, (id,)).fetchone()[0])
            return found >= count

        await wait_until(are_there, f"{count} lines of {participant}")

    async def _look(self, holds: Callable[[SagaRow], bool], what: str) -> SagaRow:
        database = self.runtime.hosted["desk"].database

        async def look() -> SagaRow | None:
            row = await database.read(lambda cx: journal.get_saga(cx, self.saga_id))
            return row if row is not None and holds(row) else None

        return await wait_until(look, f"{self.saga_id}: {what}")


async def only_start(outsider: Outsider) -> None:
    await outsider.start()


# The journeys.


async def side_by_side(saga: Saga, id: str) -> str:
    """All of: two calls, an effect and a sleep nested in it, and a race that is lost by a call."""
    first, (second, third, _), (index, _) = await saga.all(
        saga.call(Do(id=id, step="a"), undo=Undo(id=id, step="a")),
        saga.all(
            saga.call(Act(id=id, step="b"), undo=Unact(id=id, step="b")),
            saga.call(Do(id=id, step="c")),
            saga.sleep(SHORT),
        ),
        saga.race(saga.call(Stall(id=f"{id}/late")), saga.sleep(SHORT)),
    )
    return f"{first}, {second}, {third}, {index}"


async def unwound(saga: Saga, id: str) -> str:
    """What a transaction, a call and an effect did is undone, the last first."""
    await saga.run(write, id, "begun")
    saga.undo(forget, id, "begun undone")
    await saga.call(Do(id=id, step="a"), undo=Undo(id=id, step="a"))
    await saga.call(Act(id=id, step="b"), undo=Unact(id=id, step="b"))
    await saga.call(Do(id=id, step="c"), undo=Undo(id=id, step="c"))
    return await saga.call(Refuse(id=id))


async def failed_beside(saga: Saga, id: str) -> str:
    """One branch says no, the others are dropped: what they did, or may do, is undone."""
    first, _, _ = await saga.all(
        saga.call(Do(id=id, step="a"), undo=Undo(id=id, step="a")),
        saga.call(Stall(id=f"{id}/late"), undo=None),
        saga.race(saga.call(Refuse(id=id)), saga.sleep("1h")),
    )
    return first


async def told(saga: Saga, id: str) -> str:
    """A word from outside, then an event that the saga has caused itself."""
    word = await saga.receive(Word, timeout="1h")
    await saga.send(Do(id=id, step="told"))
    done = await saga.receive(Done, timeout="1h")
    return f"{word.by}, {done.step}"


async def tell(outsider: Outsider) -> None:
    await outsider.start()
    await outsider.until("Word")
    await outsider.word()


async def tell_early(outsider: Outsider) -> None:
    await outsider.word()
    await outsider.start()


async def untold(saga: Saga, id: str) -> str:
    """Nobody says a word in time."""
    await saga.call(Do(id=id, step="a"), undo=Undo(id=id, step="a"))
    try:
        await saga.receive(Word, timeout=SHORT)
    except TimedOut:
        saga.fail("nobody came")
    return "somebody came"


async def waited(saga: Saga, id: str) -> str:
    """For a span, and for a moment of the wall clock."""
    await saga.sleep(SHORT)
    await saga.run(write, id, "slept")
    await saga.until(saga.now() + timedelta(milliseconds=60))
    return await saga.run(write, id, "woke")


async def closed(saga: Saga, id: str) -> str:
    """A call is not answered in time, which is caught; another provider does it."""
    try:
        return await saga.call(Stall(id=f"{id}/first"), timeout=SHORT)
    except TimedOut:
        return await saga.call(Act(id=f"{id}/second", step="instead"))


async def parent(saga: Saga, id: str) -> str:
    """Starts another saga and awaits its result."""
    child = await saga.start(Sub(id=id), undo=Unsub(id=id))
    await saga.run(write, id, "started")
    return await child.result()


async def unwound_parent(saga: Saga, id: str) -> str:
    """What its child has completed is undone; what another child still does is cancelled."""
    ready = await saga.start(Sub(id=id), undo=Unsub(id=id))
    await ready.result()
    await saga.start(Sub(id=f"{id}/slow"), undo=Unsub(id=f"{id}/slow"))
    await saga.receive(Word, timeout="1h")
    saga.fail("not wanted")


async def tell_once_slow(outsider: Outsider) -> None:
    """The second child has begun its long sleep."""
    await outsider.start()
    await outsider.until_written("worker", f"{outsider.id}/slow", 1)
    await outsider.word()


async def cancelled(saga: Saga, id: str) -> str:
    await saga.call(Do(id=id, step="a"), undo=Undo(id=id, step="a"))
    await saga.all(
        saga.receive(Word, timeout="1h"), saga.call(Stall(id=f"{id}/late")), saga.sleep("1h")
    )
    return "not cancelled"


async def cancel(outsider: Outsider) -> None:
    await outsider.start()
    await outsider.until("Word, Stall, sleep 3600s")
    await outsider.cancel()


async def held(saga: Saga, id: str) -> str:
    """A dead letter holds it, until an operator decides."""
    await saga.call(Do(id=id, step="a"), undo=Undo(id=id, step="a"))
    said = await saga.call(Break(id=id))
    return await saga.run(write, id, said)


async def by_hand(kind: str, args: object, outsider: Outsider) -> None:
    await outsider.start()
    if await outsider.until_stuck():
        await outsider.by_hand(f"saga.{kind}", args)


async def mended_at_last(saga: Saga, id: str) -> str:
    """A dead letter holds it, until it is mended and replayed."""
    await saga.call(Do(id=id, step="a"), undo=Undo(id=id, step="a"))
    return await saga.call(Mend(id=id))


async def mend(outsider: Outsider) -> None:
    await outsider.start()
    if await outsider.until_stuck():
        (place() / "mended").touch()
        await outsider.replay()


async def forward(saga: Saga, id: str) -> str:
    """Past the point of no return what is not answered in time is asked again."""
    await saga.call(Do(id=id, step="a"), undo=Undo(id=id, step="a"))
    saga.point_of_no_return()
    return await saga.call(Slow(id=id), timeout=SHORT)


async def delayed(saga: Saga, id: str) -> str:
    """Sent with a delay by a saga, then by a handler, and by that once more."""
    await saga.send(Later(id=id, hops=2), delay=SHORT)
    return (await saga.receive(Done, timeout="1h")).step


async def ticked(saga: Saga, id: str) -> str:
    """A schedule fires beside it."""
    return await saga.run(write, id, "ticked")


async def until_ticked(outsider: Outsider) -> None:
    await outsider.start()
    await outsider.until_written("ticker", "tick", FIRINGS)


class Journey(msgspec.Struct, frozen=True):
    """A saga, what is done to it, and how it ends in any case."""

    saga: Callable[[Saga, str], Coroutine[Any, Any, str]]
    end: str
    drive: Callable[[Outsider], Awaitable[None]] = only_start


JOURNEYS = {
    "all": Journey(side_by_side, "completed: do a, act b, do c, 1"),
    "unwind": Journey(unwound, "compensated: Refuse: enough"),
    "beside": Journey(failed_beside, "compensated: Refuse: enough"),
    "told": Journey(told, "completed: ann, told", tell),
    "early": Journey(told, "completed: ann, told", tell_early),
    "untold": Journey(untold, "compensated: nobody came"),
    "waited": Journey(waited, "completed: woke"),
    "closed": Journey(closed, "completed: act instead"),
    "child": Journey(parent, "completed: errand done"),
    "children": Journey(unwound_parent, "compensated: not wanted", tell_once_slow),
    "cancel": Journey(cancelled, "cancelled: nobody wants it", cancel),
    "skip": Journey(held, "completed: skipped", partial(by_hand, "skip", {"value": "skipped"})),
    "resolve": Journey(
        held,
        "completed: as ann says",
        partial(by_hand, "resolve", {"state": "completed", "result": "as ann says"}),
    ),
    "kill": Journey(held, "cancelled: killed: by hand", partial(by_hand, "kill", {})),
    "replay": Journey(mended_at_last, "completed: mended", mend),
    "forward": Journey(forward, "completed: at last"),
    "delay": Journey(delayed, "completed: last"),
    "every": Journey(ticked, "completed: ticked", until_ticked),
}


# A process that dies.


class Commits:
    """Counts those that change something, over all databases, and strikes at one of them."""

    def __init__(self, dies_at: int, side: str) -> None:
        self.count = 0
        self._dies_at = dies_at
        self._side = side
        self._lock = threading.Lock()

    def around(self, commit: Callable[[], Any]) -> Any:
        """One at a time, so that nothing is committed beside the one that dies."""
        with self._lock:
            self.count += 1
            self._strike("before")
            done = commit()
            self._strike("after")
            return done

    def _strike(self, side: str) -> None:
        if self.count == self._dies_at and side == self._side:
            os.kill(os.getpid(), signal.SIGKILL)


def counted(commits: Commits) -> type[sqlite3.Connection]:
    """Connections whose COMMIT is counted."""

    class Counted(sqlite3.Connection):
        changes = 0

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            run = super().execute
            if sql != "COMMIT" or self.total_changes == self.changes:
                return run(sql, *args)
            self.changes = self.total_changes
            found: sqlite3.Cursor = commits.around(lambda: run(sql, *args))
            return found

    return Counted


async def travel(order: Order) -> None:
    """Makes journeys, all at once; each must end as it always does."""
    stream = MemoryStream(SystemClock()) if order.redis is None else None
    hosted = [desk, office, worker, courier, *([ticker] if "every" in order.journeys else [])]
    runtime = Runtime(
        hosted, data=order.data, redis=order.redis, stream=stream, node="n", chance=lambda: 0.0
    )
    with anyio.fail_after(LIMIT_S):
        async with runtime:
            async with anyio.create_task_group() as group:
                for name in order.journeys:
                    group.start_soon(follow, runtime, name)
            await wait_until(lambda: is_at_rest(runtime), "nothing is under way")


async def follow(runtime: Runtime, name: str) -> None:
    """One saga from its start to its end."""
    journey = JOURNEYS[name]
    await journey.drive(Outsider(runtime, name))
    handle = await runtime.handle(f"desk/trip/{name}")
    try:
        end = f"completed: {await handle.result()}"
    except Rejected as no:
        end = f"compensated: {no.reason}"
    except Cancelled as no:
        end = f"cancelled: {no.reason}"
    assert end == journey.end, f"{name}: {end}"


async def is_at_rest(runtime: Runtime) -> bool:
    """Nothing is held or on its way; a schedule alone never rests."""
    for name, hosted in runtime.hosted.items():
        if name != "ticker" and await hosted.database.read(left_over):
            return False
    return True


def left_over(connection: sqlite3.Connection) -> bool:
    """Whether something is not as it is at the end."""
    return any(connection.execute(sql).fetchone() for sql in AT_REST.values())


def child(order: Order, report: int) -> None:
    """Never returns."""
    code = 1
    signal.alarm(KILLED_S)
    try:
        commits = Commits(order.dies_at, order.side)
        sqlite3.connect = partial(sqlite3.connect, factory=counted(commits))  # type: ignore[assignment]
        anyio.run(travel, order)
        os.write(report, str(commits.count).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def made(order: Order) -> Report:
    """Forks a process for ``order`` and waits for its end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(order, writing)
    os.close(writing)
    with os.fdopen(reading) as words:
        said = words.read()
    _, status = os.waitpid(pid, 0)
    return Report(order.data, os.waitstatus_to_exitcode(status), int(said or 0))


def main() -> None:
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        sys.stdout.write(f"{encode(made(order)).decode()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
