"""P8: a call of unknown outcome is closed; an undo takes effect once, a late step never."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from outboxd import CallFailed, Command, Reject, Rejected, Retry, Saga, TimedOut
from outboxd.message import in_stream
from outboxd.testing import FakeClock, Harness, wait_until
from tests.promises import cast as stage
from tests.promises.cast import (
    Act,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
    envelope,
    hosting,
    log,
    sent_to,
    until_step,
)
from tests.promises.traffic import weather

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("on_each_broker")]

WORKER = in_stream("worker")


def one_call(cast: Cast, step: Command[str], undo: Command[None] | None) -> None:
    """A saga of one call, which does not catch what it ends with."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(step, undo=undo)


def one_caught_call(cast: Cast, step: Command[str], undo: Command[None] | None) -> None:
    """A saga of one call that goes on whatever it ends with."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            return await saga.call(step, undo=undo)
        except (TimedOut, CallFailed):
            return "went on"


async def journal(harness: Harness) -> list[str]:
    return await harness.column("desk", "SELECT kind FROM outboxd_journal ORDER BY n")


async def result(handle: Any) -> str:
    """How a saga ended, whatever it was."""
    try:
        return str(await handle.result())
    except Rejected as no:
        return f"no: {no.reason}"


@pytest.mark.parametrize("build", [one_call, one_caught_call])
async def test_a_timeout_queues_the_undo_with_the_decision(
    build: Callable[..., None], cast: Cast, tmp_path: Path
) -> None:
    build(cast, Do(id="1"), Undo(id="1"))
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(WORKER)
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")
        harness.advance(61)
        await wait_until(lambda: harness.column("desk", "SELECT 1 FROM outboxd_undo"))
        assert await journal(harness) == ["call", "timed_out", "undo_sent"]
        assert (await harness.saga(handle.id)).ended_at is None
        await wait_until(lambda: len(sent_to(harness, "worker")) == 2, "the undo is published")
        assert [e.kind for e in sent_to(harness, "worker")] == ["command", "undo"]
        harness.stream.release(WORKER)
        assert await result(handle) in ("went on", "no: Do was not answered within 60 s")
        assert await log(harness, "worker") == ["do a", "undo a"]
        assert cast.undone == [(f"{handle.id}#1", True, b'"do a"')]
        assert await journal(harness) == [
            "call",
            "timed_out",
            "undo_sent",
            "late",
            "undo_done",
            "ended",
        ]


@pytest.mark.parametrize("build", [one_call, one_caught_call])
async def test_a_timed_out_call_without_an_undo_is_closed(
    build: Callable[..., None], cast: Cast, tmp_path: Path
) -> None:
    build(cast, Do(id="1"), None)
    cast.on_do = in_an_hour
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: harness.column("worker", "SELECT 1 FROM outboxd_attempt"))
        cast.mend()
        harness.advance(61)
        assert await result(handle) in ("went on", "no: Do was not answered within 60 s")
        assert [e.kind for e in sent_to(harness, "worker")] == ["command", "close"]
        harness.advance(7200)
        await harness.until_idle()
        assert await log(harness, "worker") == []


async def test_an_undo_passes_a_step_that_waits_and_closes_it(cast: Cast, tmp_path: Path) -> None:
    """A transaction's failed attempts left nothing, so there is nothing to undo."""
    one_call(cast, Do(id="1"), Undo(id="1"))
    cast.on_do = in_an_hour
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: harness.column("worker", "SELECT 1 FROM outboxd_attempt"))
        cast.mend()
        harness.advance(61)
        assert await result(handle) == "no: Do was not answered within 60 s"
        harness.advance(7200)
        await harness.until_idle()
        assert await log(harness, "worker") == []
        assert await harness.rows("worker", "SELECT id FROM outboxd_inbox") == []
        assert cast.undone == []


def in_an_hour(*_: Any) -> None:
    raise Retry("not yet", after=3600)


async def test_an_undo_passes_a_step_behind_another_of_its_key(cast: Cast, tmp_path: Path) -> None:
    one_call(cast, Do(id="1", step="b"), Undo(id="1", step="b"))

    @cast.desk.saga
    async def blocked(saga: Saga, go: GoFirst) -> None:
        await saga.send(Do(id=go.id, step="a"))

    def only_a(_: Any, cmd: Do) -> None:
        if cmd.step == "a":
            in_an_hour()

    cast.on_do = only_a
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(GoFirst(id="1"))
        await wait_until(lambda: harness.column("worker", "SELECT 1 FROM outboxd_attempt"))
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: both_held(harness))
        harness.advance(61)
        assert await result(handle) == "no: Do was not answered within 60 s"
        assert await harness.column("worker", "SELECT type FROM outboxd_inbox") == ["Do"]
        cast.mend()
        harness.advance(3600)
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a"]


class GoFirst(Command[None], to="desk", key="id"):
    """Starts a saga that only sends."""

    id: str


async def both_held(harness: Harness) -> bool:
    return len(await harness.column("worker", "SELECT 1 FROM outboxd_inbox")) == 2


async def test_an_undo_waits_for_an_effect_that_runs(cast: Cast, tmp_path: Path) -> None:
    one_call(cast, Act(id="1"), Unact(id="1"))
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        harness.advance(61)
        await wait_until(lambda: two_in_inbox(harness))
        assert cast.undone == []
        gate.open.set()
        assert await result(handle) == "no: Act was not answered within 60 s"
        assert await log(harness, "courier") == ["act x", "unact x"]
        assert cast.undone == [(f"{handle.id}#1", True, b'"act x"')]


async def two_in_inbox(harness: Harness) -> bool:
    return len(await harness.column("courier", "SELECT 1 FROM outboxd_inbox")) == 2


async def test_an_effect_that_fails_while_its_undo_waits_is_not_tried_again(
    cast: Cast, tmp_path: Path
) -> None:
    one_call(cast, Act(id="1"), Unact(id="1"))
    tries: list[str] = []
    reached, go_on = anyio.Event(), anyio.Event()

    async def fail(*_: Any) -> None:
        tries.append("try")
        reached.set()
        await go_on.wait()
        raise ConnectionError("the answer was lost")

    cast.on_act = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await reached.wait()
        harness.advance(61)
        await wait_until(lambda: two_in_inbox(harness))
        go_on.set()
        assert await result(handle) == "no: Act was not answered within 60 s"
        assert tries == ["try"]
        assert await log(harness, "courier") == ["unact x"]
        assert cast.undone == [(f"{handle.id}#1", False, None)]


async def test_an_effect_that_waits_for_its_next_try_is_undone_as_unknown(
    cast: Cast, tmp_path: Path
) -> None:
    one_call(cast, Act(id="1"), Unact(id="1"))

    async def fail(*_: Any) -> None:
        in_an_hour()

    cast.on_act = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: harness.column("courier", "SELECT 1 FROM outboxd_attempt"))
        cast.mend()
        harness.advance(61)
        assert await result(handle) == "no: Act was not answered within 60 s"
        harness.advance(7200)
        await harness.until_idle()
        assert await log(harness, "courier") == ["unact x"]
        assert cast.undone == [(f"{handle.id}#1", False, None)]


async def test_an_effect_that_never_began_is_not_undone(tmp_path: Path) -> None:
    """It waits because as many run as may; its undo passes it."""
    cast = Cast(concurrency=1)

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id), undo=Unact(id=go.id), timeout="1h")

    @cast.desk.saga
    async def impatient(saga: Saga, go: GoFirst) -> None:
        await saga.call(Act(id=go.id), undo=Unact(id=go.id))

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        first = await harness.start(Go(id="1"))
        await gate.reached.wait()
        second = await harness.start(GoFirst(id="2"))
        await wait_until(lambda: two_in_inbox(harness))
        harness.advance(61)
        assert await result(second) == "no: Act was not answered within 60 s"
        gate.open.set()
        assert await result(first) == "act x"
        await harness.until_idle()
        assert await log(harness, "courier") == ["act x"]
        assert cast.undone == []


async def test_an_undo_that_overtakes_its_step_is_recorded(cast: Cast, tmp_path: Path) -> None:
    undo = envelope(Undo(id="1"), "s#1~undo", kind="undo", undoes="s#1", replyto="desk", call=1)
    step = envelope(Do(id="1"), "s#1", replyto="desk", call=1, correlationid="s")

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return "unused"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.put("worker", undo)
        await harness.put("worker", step)
        await harness.put("worker", envelope(Do(id="1", step="last"), "m-1"))
        await wait_until(lambda: log(harness, "worker"))
        assert await log(harness, "worker") == ["do last"]
        assert cast.undone == []
        assert await harness.rows("worker", "SELECT id, state FROM outboxd_fence") == [
            ("s#1", "closed")
        ]


async def test_an_undo_takes_effect_once(cast: Cast, tmp_path: Path) -> None:
    """Also when it comes again under another id, as after a restored sender."""
    one_call(cast, Do(id="1"), Undo(id="1"))

    def undo(message_id: str) -> bytes:
        return envelope(
            Undo(id="1"), message_id, kind="undo", undoes="desk/trip/1#1", replyto="desk", call=1
        )

    async with hosting(*cast.participants, data=tmp_path) as harness:
        assert await (await harness.start(Go(id="1"))).result() == "do a"
        for message_id in ("u-1", "u-2", "u-1"):
            await harness.put("worker", undo(message_id))
        await harness.put("worker", envelope(Do(id="1", step="last"), "m-1"))
        await wait_until(lambda: last_is_done(harness))
        assert await log(harness, "worker") == ["do a", "undo a", "do last"]


async def last_is_done(harness: Harness) -> bool:
    return "do last" in await log(harness, "worker")


async def test_a_step_that_comes_again_is_answered_again_and_not_done_again(
    cast: Cast, tmp_path: Path
) -> None:
    one_call(cast, Do(id="1"), Undo(id="1"))
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "do a"
        step = envelope(Do(id="1"), f"{handle.id}#1", replyto="desk", call=1)
        await harness.put("worker", step)
        await wait_until(lambda: len(sent_to(harness, "desk")) == 2)
        assert {e.outcome for e in sent_to(harness, "desk")} == {"ok"}
        assert await log(harness, "worker") == ["do a"]


async def test_a_saga_does_not_end_before_a_caught_call_is_closed(
    cast: Cast, tmp_path: Path
) -> None:
    one_caught_call(cast, Act(id="1"), None)
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        harness.advance(61)
        await until_step(harness, handle.id, "closing")
        gate.open.set()
        assert await result(handle) == "went on"
        assert (await journal(harness))[-2:] == ["undo_done", "ended"]


class Mischief:
    """Steps that are slow, refused, broken or half done, by chance; undos that hiccup."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.is_over = False

    def transaction(self, _: Any, message: Any) -> None:
        luck = 1.0 if self.is_over else self.chance.random()
        if isinstance(message, Undo):
            if luck < 0.3:
                raise RuntimeError("a hiccup")
        elif luck < 0.1:
            raise Reject("no")
        elif luck < 0.3:
            raise Retry("slow", after=self.chance.uniform(10, 100))
        elif luck < 0.5:
            raise RuntimeError("broken")

    async def effect(self, _: Any, message: Any) -> None:
        self.transaction(_, message)

    async def undo_effect(self, _: Any, message: Any) -> None:
        if not self.is_over and self.chance.random() < 0.3:
            raise ConnectionError("lost")


async def test_no_storm_leaves_a_step_standing(tmp_path: Path, storm: int) -> None:
    """With timeouts, letters, refusals and a broker that forgets: done, or undone after it."""
    for seed in range(3 * storm):
        chance = random.Random(seed)
        cast, mischief = Cast(), Mischief(chance)
        cast.on_do = cast.on_undo = mischief.transaction
        cast.on_act, cast.on_unact = mischief.effect, mischief.undo_effect

        @cast.desk.saga
        async def trip(saga: Saga, go: Go) -> str:
            await saga.call(Do(id=go.id), undo=Undo(id=go.id), on_dead="fail")
            try:
                await saga.call(Act(id=go.id), undo=Unact(id=go.id), on_dead="fail")
            except TimedOut:
                return "without it"
            return await saga.call(
                Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"), on_dead="fail"
            )

        clock = FakeClock()
        stream = stage.new_stream(clock)
        await stream.forget()  # the round before had the same participants, and other stores
        async with hosting(
            *cast.participants, data=tmp_path / str(seed), clock=clock, stream=stream
        ) as harness:
            harness.stream.chance, harness.stream.faults = chance, weather(chance)
            keys = [str(n) for n in range(25)]
            for key in keys:
                await harness.start(Go(id=key))
            await harness.hurry(partial(have_ended, harness, 8), 1.0, f"seed {seed}")
            await harness.stream.forget()
            await harness.hurry(partial(have_ended, harness, 16), 1.0, f"seed {seed}")
            mischief.is_over = True
            await harness.hurry(partial(have_ended, harness, 25), 1.0, f"seed {seed}, all")
            for key in keys:
                assert await errors(harness, key) == [], f"seed {seed}"


async def have_ended(harness: Harness, count: int) -> bool:
    sql = "SELECT count(*) FROM outboxd_saga WHERE ended_at IS NOT NULL"
    [ended] = await harness.column("desk", sql)
    return bool(ended >= count)


async def errors(harness: Harness, key: str) -> list[str]:
    """What of one saga's steps stands or fell, and should not have."""
    row = await harness.saga(f"desk/trip/{key}")
    did = await log(harness, "worker", key) + await log(harness, "courier", key)
    found: list[str] = []
    went_without = row.result == b'"without it"'
    for do, undo in (("do a", "undo a"), ("do b", "undo b"), ("act x", "unact x")):
        stands = row.state == "completed" and not (went_without and do != "do a")
        events = [what for what in did if what in (do, undo)]
        allowed = ([do],) if stands else ([], [undo], [do, undo])
        if events not in allowed:
            found.append(f"{row.id} is {row.state} ({row.reason}): {events}")
    return found
