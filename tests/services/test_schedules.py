"""Schedules: fired once each, through failures, absence, changes of code and jumps of the clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outboxd import Command, Participant, Policy, Tx
from outboxd.memory_stream import MemoryStream
from outboxd.monitor import audit
from outboxd.testing import FakeClock, FaultyStream, Harness, wait_until
from tests.promises.cast import LOG, envelope, hosting, letters, log, nothing, write

pytestmark = pytest.mark.anyio

BRIEF = Policy(attempts=2, base_s=0.01, cap_s=0.01)


class Note(Command[None], to="ticker", key="id"):
    """What a firing sends."""

    id: str


def ticker(hook: Callable[[Tx], Any] = nothing, **when: Any) -> Participant:
    ticker = Participant("ticker", schema=LOG)

    @ticker.every(**(when or {"interval": "1h"}), retry=BRIEF)
    def tick(tx: Tx) -> None:
        write(tx, "tick", tx.message_id)
        hook(tx)

    @ticker.handle
    def note(tx: Tx, cmd: Note) -> None:
        write(tx, cmd.id, "noted")

    return ticker


async def ticks(harness: Harness, count: int) -> None:
    """Waits for a number of firings; their numbers have no gap and none is there twice."""

    async def have_come() -> bool:
        return len(await log(harness, "ticker", "tick")) >= count

    await wait_until(have_come, f"{count} firings")
    expected = [f"ticker/every/tick#{n}" for n in range(1, count + 1)]
    assert await log(harness, "ticker", "tick") == expected


async def due_in(harness: Harness, clock: FakeClock) -> float:
    (due_at,) = await harness.column("ticker", "SELECT due_at FROM outboxd_schedule")
    return float(due_at) - clock.now()


async def test_a_schedule_fires_each_time_and_what_it_sends_goes_with_it(tmp_path: Path) -> None:
    clock = FakeClock()

    def send(tx: Tx) -> None:
        tx.send(Note(id="n"))

    async with hosting(ticker(send), data=tmp_path, clock=clock) as harness:
        await harness.until_idle()
        assert await log(harness, "ticker") == []
        for count in (1, 2, 3):
            harness.advance(3600)
            await ticks(harness, count)
        await harness.until_idle()
        assert await log(harness, "ticker", "n") == ["noted"] * 3


async def test_its_beat_goes_on_over_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(ticker(), data=tmp_path, clock=clock, stream=stream) as harness:
        harness.advance(3000)
        await harness.until_idle()
    async with hosting(ticker(), data=tmp_path, clock=clock, stream=stream) as harness:
        assert 0 < await due_in(harness, clock) <= 600
        harness.advance(600)
        await ticks(harness, 1)


@pytest.mark.parametrize(("missed", "made_up"), [("once", 1), ("skip", 0), ("all", 3)])
async def test_what_was_missed_while_nobody_was_there(
    tmp_path: Path, missed: str, made_up: int
) -> None:
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    when: dict[str, Any] = {"interval": "1h", "missed": missed}
    async with hosting(ticker(**when), data=tmp_path, clock=clock, stream=stream):
        pass
    clock.advance(3 * 3600 + 60)
    async with hosting(ticker(**when), data=tmp_path, clock=clock, stream=stream) as harness:
        await ticks(harness, made_up)
        harness.advance(3600 - 60)
        await ticks(harness, made_up + 1)


async def test_a_firing_that_fails_is_tried_again_and_dies_and_holds_up_no_later_one(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    fails = [True]

    def fail(tx: Tx) -> None:
        if fails[0]:
            raise RuntimeError("not today")

    async with hosting(ticker(fail), data=tmp_path, clock=clock) as harness:
        harness.advance(3600)

        async def has_died() -> bool:
            return bool(await letters(harness, "ticker"))

        await wait_until(has_died, "the firing's letter")
        (attempts,) = await harness.column("ticker", "SELECT attempts FROM outboxd_dead")
        assert attempts == 2
        assert await log(harness, "ticker") == []
        fails[0] = False
        await harness.replay("ticker", 1)
        await ticks(harness, 1)
        harness.advance(3600)
        await ticks(harness, 2)


async def test_a_schedule_that_left_the_code_rests_and_its_numbers_are_never_given_again(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    bare = Participant("ticker", schema=LOG)
    async with hosting(ticker(), data=tmp_path, clock=clock, stream=stream) as harness:
        harness.advance(3600)
        await ticks(harness, 1)
    async with hosting(bare, data=tmp_path, clock=clock, stream=stream) as harness:
        harness.advance(3600)
        assert await harness.column("ticker", "SELECT due_at FROM outboxd_schedule") == [None]
    async with hosting(ticker(interval="2h"), data=tmp_path, clock=clock, stream=stream) as harness:
        assert 7100 < await due_in(harness, clock) <= 7200
        harness.advance(7200)
        await ticks(harness, 2)


@pytest.mark.parametrize("jump_s", [-7200.0, 7200.0])
async def test_an_interval_does_not_feel_a_jump_of_the_wall_clock(
    tmp_path: Path, jump_s: float
) -> None:
    clock = FakeClock()
    async with hosting(ticker(), data=tmp_path, clock=clock) as harness:
        harness.advance(3600)
        await ticks(harness, 1)
        clock.jump(jump_s)
        harness.advance(0)  # it looks at the clock

        async def has_moved() -> bool:
            return 3500 < await due_in(harness, clock) <= 3600

        await wait_until(has_moved, "the schedule moves along")
        harness.advance(3600)
        await ticks(harness, 2)


async def test_a_cron_follows_the_wall_clock_and_fires_nothing_twice(tmp_path: Path) -> None:
    clock = FakeClock(at=1_800_000_000.0)  # eight o'clock in the morning, UTC
    async with hosting(ticker(cron="0 9 * * *"), data=tmp_path, clock=clock) as harness:
        clock.jump(3600 + 1)
        harness.advance(0)
        await ticks(harness, 1)
        clock.jump(-600)
        harness.advance(1200)  # past nine again

        async def has_jumped() -> bool:
            return 22 * 3600 < await due_in(harness, clock) < 24 * 3600

        await wait_until(has_jumped, "tomorrow's due time")
        await harness.until_idle()
        await ticks(harness, 1)


async def test_nobody_else_can_make_a_schedule_fire(tmp_path: Path) -> None:
    async with hosting(ticker(), data=tmp_path) as harness:
        forged = envelope(Note(id="x"), "forged", kind="every", type="tick")
        await harness.put("ticker", forged)

        async def is_refused() -> bool:
            return bool(await letters(harness, "ticker"))

        await wait_until(is_refused, "the forged firing's letter")
        assert await log(harness, "ticker") == []
        assert audit(tmp_path) == []
