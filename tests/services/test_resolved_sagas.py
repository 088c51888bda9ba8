"""A saga whose end a person states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outboxd import (
    Refused,
    Rejected,
    Unrecoverable,
)
from outboxd.monitor import Monitor
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Ask,
    Cast,
    Go,
    hosting,
    letters,
    log,
)
from tests.services.trips import one_effect, resolve, skip, two_steps

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


async def test_a_saga_that_an_operator_completed_answers_whoever_waits(
    cast: Cast, tmp_path: Path
) -> None:
    two_steps(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, cast.callers(), data=tmp_path) as harness:
        caller = await harness.start(Ask(name="c", id="1"))
        await harness.until_saga("desk/trip/1", "stuck: letter")
        with pytest.raises(Refused, match="Expected `str`, got `null`"):
            await resolve(harness, "desk/trip/1", "completed")
        with pytest.raises(Refused, match="Invalid enum value 'cancelled'"):
            await resolve(harness, "desk/trip/1", "cancelled")
        await resolve(harness, "desk/trip/1", "completed", "as good as done")
        assert await caller.result() == "as good as done"
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a"]
        assert await letters(harness, "worker") == [("Do", "closed")]
        assert (await harness.saga("desk/trip/1")).state == "completed"
    with Monitor(tmp_path) as monitor:
        assert monitor.saga("desk/trip/1").history[-2].text == "test: test"


async def test_a_step_that_waits_is_closed_when_its_saga_is_ended_by_hand(
    cast: Cast, tmp_path: Path
) -> None:
    two_steps(cast)
    cast.on_do = cast.later
    async with hosting(*cast.participants, data=tmp_path) as harness:
        resolved = await harness.start(Go(id="1"))
        killed = await harness.start(Go(id="2"))
        sql = "SELECT count(*) FROM outboxd_inbox WHERE attempts = 1"
        await wait_until(lambda: counts(harness, sql, 2))
        cast.mend()
        await resolve(harness, resolved.id, "compensated")
        await harness.request("saga.kill", "desk", killed.id)
        harness.advance(60)
        await harness.until_idle()
        assert await log(harness, "worker") == []


async def counts(harness: Harness, sql: str, wanted: int) -> bool:
    return await harness.column("worker", sql) == [wanted]


async def test_a_saga_whose_undo_died_is_resolved_and_its_letter_closed(
    cast: Cast, tmp_path: Path
) -> None:
    two_steps(cast, fails=True)

    def no(*_: Any) -> None:
        raise Unrecoverable("the till is locked")

    cast.on_undo = no
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: undo")
        await resolve(harness, handle.id, "compensated")
        with pytest.raises(Rejected):
            await handle.result()
        await harness.until_idle()
        assert await letters(harness, "worker") == [("Undo", "closed")]
        assert await log(harness, "worker") == ["do a", "do b"]


async def test_a_saga_whose_code_changed_is_resolved_without_its_code(
    cast: Cast, tmp_path: Path
) -> None:
    two_steps(cast)
    cast.on_do = cast.later
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: harness.column("worker", "SELECT 1 FROM outboxd_inbox"))
    other = Cast()
    one_effect(other)
    async with hosting(*other.participants, data=tmp_path, clock=harness.clock) as harness:
        harness.advance(20)
        await harness.until_saga(handle.id, "stuck: code changed")
        with Monitor(tmp_path) as monitor:
            moves = monitor.why(handle.id).moves
        assert moves == tuple(
            f"outboxd saga {command}"
            for command in (
                f"retry {handle.id}",
                f"resolve {handle.id} completed",
                f"resolve {handle.id} compensated",
                f"kill {handle.id}",
            )
        )
        with pytest.raises(Refused, match="the journal has call Do"):
            await skip(harness, handle.id, "x")
        await resolve(harness, handle.id, "completed", "done")
        assert await (await harness.runtime.handle(handle.id)).result() == "done"
