"""Spans and moments: what a jump of the wall clock does to them, and what pending ones cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outboxd import Saga
from outboxd.testing import FakeClock, wait_until
from tests.promises.cast import Cast, Do, Go, hosting, log, until_step

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]

HOUR = 3600.0


def first_of_both(cast: Cast) -> None:
    """What is first: three hours from now, or the moment that is now in three hours and a bit."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        moment = saga.now() + timedelta(hours=3, minutes=1)
        first, _ = await saga.race(saga.sleep("3h"), saga.until(moment))
        return ("span", "moment")[first]


async def test_without_a_jump_the_span_is_over_first(cast: Cast, tmp_path: Path) -> None:
    first_of_both(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        harness.advance(3 * HOUR)
        assert await handle.result() == "span"


async def test_a_clock_that_is_set_forward_brings_the_moment_and_keeps_the_span(
    cast: Cast, tmp_path: Path
) -> None:
    first_of_both(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        harness.advance(HOUR)
        harness.clock.jump(2.5 * HOUR)
        assert await handle.result() == "moment"


async def test_a_clock_that_is_set_back_takes_the_moment_away(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        moment = saga.now() + timedelta(hours=1)
        await saga.race(saga.sleep("3h"), saga.until(moment))
        first, _ = await saga.race(saga.sleep("30m"), saga.until(moment + timedelta(hours=1)))
        return ("span", "moment")[first]

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        harness.advance(HOUR)

        async def is_at_the_second() -> bool:
            step = (await harness.saga(handle.id)).step or ""
            return step.startswith("sleep 1800s, until ")

        await wait_until(is_at_the_second)
        harness.clock.jump(-12 * HOUR)
        harness.advance(HOUR / 2)
        assert await handle.result() == "span"


async def test_a_clock_that_is_set_back_while_nobody_is_here_makes_no_span_longer(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id, step="delayed"), delay="2h")
        moment = saga.now() + timedelta(hours=1)
        first, _ = await saga.race(saga.sleep("3h"), saga.until(moment))
        return ("span", "moment")[first]

    clock = FakeClock()
    async with hosting(*cast.participants, data=tmp_path, clock=clock) as harness:
        await harness.start(Go(id="1"))
    for _ in range(2):  # whoever comes next does not count it again
        clock.jump(-12 * HOUR)
        async with hosting(*cast.participants, data=tmp_path, clock=clock) as harness:
            harness.advance(HOUR / 2)
    async with hosting(*cast.participants, data=tmp_path, clock=clock) as harness:
        assert await log(harness, "worker") == []
        harness.advance(HOUR)
        await wait_until(lambda: log(harness, "worker"), "what was delayed")
        harness.advance(HOUR)
        row = await harness.until_saga("desk/trip/1", "completed")
        assert row.result == b'"span"'


async def test_a_moment_that_has_passed_is_not_waited_for(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.until(datetime(2020, 2, 2, tzinfo=UTC))
        return "at once"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "at once"


async def test_a_moment_stays_where_it_is_though_a_letter_held_the_saga(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        did, _ = await saga.all(
            saga.call(Do(id=go.id)), saga.until(saga.now() + timedelta(hours=2))
        )
        return did

    cast.break_step("a")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        (before,) = await harness.column("desk", "SELECT due_at FROM outboxd_call WHERE pos = 2")
        await harness.until_saga(handle.id, "stuck: letter")
        harness.advance(HOUR)
        cast.mend()
        await harness.replay("worker", 1)
        await until_step(harness, handle.id, f"until {_shown(before)}")
        (after,) = await harness.column("desk", "SELECT due_at FROM outboxd_call WHERE pos = 2")
        assert after == pytest.approx(before, abs=0.01)
        harness.advance(HOUR)
        assert await handle.result() == "do a"


def _shown(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
