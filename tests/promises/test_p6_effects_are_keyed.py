"""P6: work outside is done at least once, under a key that never changes; what it gave is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from outboxd import Command, Context, Participant, Policy, Reject, Saga, Tx
from outboxd.errors import StoreBroken
from outboxd.testing import Harness, wait_until
from tests.promises.cast import Act, Cast, Go, Unact, hosting, letters, log, write

pytestmark = pytest.mark.anyio


class Ticket(msgspec.Struct, frozen=True):
    """What the world outside answers."""

    number: int


class Book(Command[Ticket], to="agency", key="id"):
    """Asks the world outside."""

    id: str


class World:
    """The world outside: counts how often it was asked, by key."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.loses_answers = 0
        self.attempts: list[int] = []
        self.fails_before_commit = 0

    async def book(self, *, key: str) -> Ticket:
        """Books, and then perhaps loses the answer."""
        self.keys.append(key)
        if self.loses_answers:
            self.loses_answers -= 1
            raise ConnectionError("the answer was lost")
        return Ticket(len(self.keys))


def agency(world: World) -> Participant:
    """Books once, and then fails as often as the test says."""
    agency = Participant(
        "agency", schema="CREATE TABLE booked (id TEXT NOT NULL, number INTEGER NOT NULL) STRICT;"
    )

    @agency.handle(retry=Policy(attempts=5, base_s=0.01))
    async def book(ctx: Context, cmd: Book) -> Ticket:
        world.attempts.append(ctx.attempt)
        ticket = await ctx.once("book", world.book, key=ctx.idempotency_key)
        assert isinstance(ticket, Ticket)
        if world.fails_before_commit:
            world.fails_before_commit -= 1
            raise RuntimeError("after the call, before the commit")
        return await ctx.commit(record, cmd, ticket)

    return agency


def record(tx: Tx, cmd: Book, ticket: Ticket) -> Ticket:
    """The one transaction of a booking."""
    tx.execute("INSERT INTO booked VALUES (?, ?)", (cmd.id, ticket.number))
    return ticket


async def booked(harness: Harness) -> list[int]:
    return await harness.column("agency", "SELECT number FROM booked")


async def test_a_recorded_result_is_reused_on_every_retry(tmp_path: Path) -> None:
    world = World()
    world.fails_before_commit = 3
    async with hosting(agency(world), data=tmp_path) as harness:
        await harness.send(Book(id="1"), "m-1")
        await wait_until(lambda: booked(harness))
        assert await booked(harness) == [1]
        assert world.keys == ["m-1"]
        assert world.attempts == [1, 2, 3, 4]
        assert await harness.rows("agency", "SELECT * FROM outboxd_once") == []


async def test_an_unrecorded_call_is_made_again_with_the_same_key(tmp_path: Path) -> None:
    world = World()
    world.loses_answers = 2
    async with hosting(agency(world), data=tmp_path) as harness:
        await harness.send(Book(id="1"), "m-1")
        await wait_until(lambda: booked(harness))
        assert world.keys == ["m-1"] * 3
        assert await booked(harness) == [3]


async def test_a_result_that_could_not_be_recorded_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refused after the call: that costs no attempt, and the key is the same."""
    world = World()
    refusals = [True]

    async with hosting(agency(world), data=tmp_path) as harness:
        database = harness.runtime.hosted["agency"].database
        write = database.write

        async def refuse_once(work: Any) -> Any:
            if world.keys and refusals:
                refusals.clear()
                raise StoreBroken("the disk is full")
            return await write(work)

        monkeypatch.setattr(database, "write", refuse_once)
        await harness.send(Book(id="1"), "m-1")
        await wait_until(lambda: booked(harness))
        assert world.keys == ["m-1", "m-1"]
        assert world.attempts == [1, 1]
        assert await booked(harness) == [2]


async def test_a_replayed_letter_reuses_what_was_recorded(tmp_path: Path) -> None:
    world = World()
    world.fails_before_commit = 5
    async with hosting(agency(world), data=tmp_path) as harness:
        await harness.send(Book(id="1"), "m-1")
        await wait_until(lambda: letters(harness, "agency"))
        await harness.replay("agency", 1)
        await wait_until(lambda: booked(harness))
        assert world.keys == ["m-1"]
        assert world.attempts == [1, 2, 3, 4, 5, 1]


async def test_the_call_s_id_is_the_key_of_a_saga_s_effect(cast: Cast, tmp_path: Path) -> None:
    keys: list[str] = []

    async def note(ctx: Context, cmd: Act | Unact) -> None:
        keys.append(ctx.idempotency_key)

    cast.on_act = cast.on_unact = note

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        saga.fail("no more")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="1"))
        await harness.until_saga("desk/trip/1", "compensated")
        assert keys == ["desk/trip/1#1", "desk/trip/1#1~undo"]


async def test_started_is_committed_before_the_call_and_the_result_after_it(
    cast: Cast, tmp_path: Path
) -> None:
    reached, go_on = anyio.Event(), anyio.Event()

    async def outside() -> int:
        reached.set()
        await go_on.wait()
        return 7

    async def once(ctx: Context, cmd: Act) -> None:
        assert await ctx.once("outside", outside) == 7
        await hold.wait()

    hold = anyio.Event()
    cast.on_act = once
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Act(id="1"), "m-1")
        await reached.wait()
        sql = "SELECT id, name, state, result FROM outboxd_once"
        assert await harness.rows("courier", sql) == [("m-1", "outside", "started", None)]
        go_on.set()
        await wait_until(lambda: is_recorded(harness))
        assert await harness.rows("courier", sql) == [("m-1", "outside", "done", b"7")]
        hold.set()
        await wait_until(lambda: log(harness, "courier"))


async def is_recorded(harness: Harness) -> bool:
    return await harness.column("courier", "SELECT state FROM outboxd_once") == ["done"]


async def test_a_second_commit_changes_nothing(tmp_path: Path) -> None:
    """One message is one transaction: the handler's mistake costs neither its first one."""
    twice = Participant("agency", schema="CREATE TABLE booked (id TEXT, number INTEGER) STRICT;")
    raised: list[Exception] = []

    @twice.handle
    async def book(ctx: Context, cmd: Book) -> Ticket:
        ticket = await ctx.commit(record, cmd, Ticket(1))
        try:
            await ctx.commit(record, cmd, Ticket(2))
        except RuntimeError as err:
            raised.append(err)
            raise
        return ticket

    async with hosting(twice, data=tmp_path) as harness:
        await harness.send(Book(id="1"))
        await wait_until(lambda: raised)
        await harness.until_idle()
        assert "ctx.commit was called twice" in str(raised[0])
        assert await booked(harness) == [1]
        assert await letters(harness, "agency") == []


async def test_without_a_commit_the_return_value_is_committed(tmp_path: Path) -> None:
    plain = Participant("agency")
    callers = Participant("desk", schema="CREATE TABLE log (n INTEGER PRIMARY KEY, id, what);")

    @plain.handle
    async def book(ctx: Context, cmd: Book) -> Ticket:
        return Ticket(41)

    @callers.saga
    async def trip(saga: Saga, go: Go) -> str:
        ticket = await saga.call(Book(id=go.id))
        return f"ticket {ticket.number}"

    async with hosting(plain, callers, data=tmp_path) as harness:
        assert await (await harness.start(Go(id="1"))).result() == "ticket 41"


async def test_an_effect_s_no_is_answered_and_not_retried(cast: Cast, tmp_path: Path) -> None:
    async def refuse(ctx: Context, cmd: Act) -> None:
        raise Reject("not there")

    cast.on_act = refuse

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id), undo=Unact(id=go.id))

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="1"))
        row = await harness.until_saga("desk/trip/1", "compensated")
        assert row.reason == "Act: not there"
        assert await log(harness, "courier") == []


async def test_an_attempt_that_takes_too_long_is_a_failed_one(tmp_path: Path) -> None:
    slow = Participant("agency", schema="CREATE TABLE booked (id TEXT, number INTEGER) STRICT;")

    @slow.handle(timeout="50ms", retry=Policy(attempts=3, base_s=0.01))
    async def book(ctx: Context, cmd: Book) -> Ticket:
        if ctx.attempt < 3:
            await anyio.sleep_forever()
        return await ctx.commit(record, cmd, Ticket(ctx.attempt))

    async with hosting(slow, data=tmp_path) as harness:
        await harness.send(Book(id="1"))
        await wait_until(lambda: booked(harness))
        assert await booked(harness) == [3]
        errors = await harness.column("agency", "SELECT error FROM outboxd_attempt")
        assert errors == ["TimeoutError: agency.book was not done within 0.05 s"] * 2


async def test_no_more_run_at_once_than_the_handler_allows(tmp_path: Path) -> None:
    busy = Participant("agency", schema="CREATE TABLE booked (id TEXT, number INTEGER) STRICT;")
    gate, now, most = anyio.Event(), [0], [0]

    @busy.handle(concurrency=3)
    async def book(ctx: Context, cmd: Book) -> Ticket:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await gate.wait()
        now[0] -= 1
        return await ctx.commit(record, cmd, Ticket(1))

    async with hosting(busy, data=tmp_path) as harness:
        await harness.send_all(*[Book(id=str(key)) for key in range(10)])
        await wait_until(lambda: now[0] == 3)
        gate.set()
        await wait_until(lambda: have_booked(harness, 10))
        assert most == [3]


async def have_booked(harness: Harness, count: int) -> bool:
    return len(await booked(harness)) == count


async def test_effects_of_one_key_run_one_after_another(cast: Cast, tmp_path: Path) -> None:
    running: list[str] = []

    async def alone(ctx: Context, cmd: Act) -> None:
        assert running == []
        running.append(cmd.step)
        await anyio.lowlevel.checkpoint()
        running.remove(cmd.step)

    cast.on_act = alone
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send_all(*[Act(id="1", step=step) for step in "abcdefgh"])
        await wait_until(lambda: is_at(harness, "act h"))
        assert await log(harness, "courier") == [f"act {step}" for step in "abcdefgh"]


async def is_at(harness: Harness, what: str) -> bool:
    return what in await log(harness, "courier")


async def test_a_lifespan_gives_each_effect_its_resource(tmp_path: Path) -> None:
    life: list[str] = []

    @asynccontextmanager
    async def client() -> AsyncIterator[str]:
        life.append("opened")
        yield "the client"
        await anyio.lowlevel.checkpoint()  # as closing a connection does
        life.append("closed")

    agency = Participant("agency", lifespan=client)

    @agency.handle
    async def book(ctx: Context, cmd: Book) -> Ticket:
        life.append(ctx.resource)
        return Ticket(1)

    async with hosting(agency, data=tmp_path) as harness:
        await harness.send(Book(id="1"))
        await wait_until(lambda: "the client" in life)
        await harness.until_idle()
        assert life == ["opened", "the client"]
    assert life == ["opened", "the client", "closed"]


async def test_a_shutdown_gives_an_interrupted_attempt_back(cast: Cast, tmp_path: Path) -> None:
    """It is not counted, runs at once after the next start, and what was recorded is reused."""
    attempts: list[int] = []
    calls: list[str] = []

    async def outside() -> str:
        calls.append("call")
        return "result"

    async def first_run(ctx: Context, cmd: Act) -> None:
        attempts.append(ctx.attempt)
        await ctx.once("outside", outside)
        reached.set()
        await anyio.sleep_forever()

    async def second_run(ctx: Context, cmd: Act) -> None:
        attempts.append(ctx.attempt)
        await ctx.once("outside", outside)

    reached = anyio.Event()
    cast.on_act = first_run
    async with hosting(*cast.participants, data=tmp_path, drain_s=0.05) as harness:
        await harness.send(Act(id="1"))
        await reached.wait()
    again = Cast()
    again.on_act = second_run
    async with hosting(*again.participants, data=tmp_path, clock=harness.clock) as harness:
        await wait_until(lambda: log(harness, "courier"))
        assert attempts == [1, 1]
        assert calls == ["call"]
        assert await harness.rows("courier", "SELECT * FROM outboxd_attempt") == []


async def test_a_shutdown_lets_an_effect_finish(cast: Cast, tmp_path: Path) -> None:
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Act(id="1"))
        await gate.reached.wait()
        harness.runtime.stop()
        gate.open.set()
    async with hosting(*cast.participants, data=tmp_path, clock=harness.clock) as harness:
        assert await log(harness, "courier") == ["act x"]


async def test_the_transaction_of_an_effect_that_fails_is_tried_again(
    cast: Cast, tmp_path: Path
) -> None:
    tries: list[int] = []

    def commit(tx: Tx, step: str) -> str:
        tries.append(tx.attempt)
        write(tx, "1", step)
        if len(tries) < 3:
            raise ValueError("not yet")
        return step

    agency = Participant("agency", schema="CREATE TABLE log (n INTEGER PRIMARY KEY, id, what);")

    @agency.handle(retry=Policy(attempts=3, base_s=0.01))
    async def book(ctx: Context, cmd: Book) -> Ticket:
        await ctx.commit(commit, "booked")
        return Ticket(1)

    async def is_done() -> Any:
        return await log(harness, "agency")

    async with hosting(agency, data=tmp_path) as harness:
        await harness.send(Book(id="1"))
        await wait_until(is_done)
        assert await log(harness, "agency") == ["booked"]
        assert tries == [1, 2, 3]
