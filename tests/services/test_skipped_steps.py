"""A step that a person answers by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outboxd import (
    Refused,
    Rejected,
    Retry,
    Saga,
    Unrecoverable,
)
from outboxd.monitor import Monitor
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Cast,
    Do,
    Go,
    hosting,
    letters,
    log,
    until_step,
)
from tests.services.trips import journal, one_effect, resolve, skip, two_steps

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


async def test_a_skipped_step_is_answered_with_the_operator_s_value(
    cast: Cast, tmp_path: Path
) -> None:
    two_steps(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        await skip(harness, handle.id, "done by phone")
        assert await handle.result() == "do a, done by phone"
        await harness.until_idle()
        assert await letters(harness, "worker") == [("Do", "closed")]
        with pytest.raises(Refused, match="closed"):
            await harness.replay("worker", 1)
        assert await log(harness, "worker") == ["do a"]
    with Monitor(tmp_path) as monitor:
        detail = monitor.saga(handle.id)
    assert [(step.name, step.state) for step in detail.steps] == [("Do", "done"), ("Do", "skipped")]
    assert detail.steps[1].text == "test: test; answered done by phone"
    [operation] = detail.operations
    assert (operation.did, operation.who, operation.reason) == ("saga.skip", "test", "test")


async def test_an_answer_that_does_not_fit_the_reply_changes_nothing(
    cast: Cast, tmp_path: Path
) -> None:
    two_steps(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        with pytest.raises(Refused, match="Expected `str`, got `int`"):
            await skip(harness, handle.id, 7)
        with pytest.raises(Refused, match="needs a reason"):
            await harness.request("saga.skip", "desk", handle.id, {"value": "x"}, reason=" ")
        assert (await harness.saga(handle.id)).state == "stuck"
        cast.mend()
        await harness.replay("worker", 1)
        assert await handle.result() == "do a, do b"


async def test_only_what_was_carried_out_is_undone_of_a_skipped_step(
    cast: Cast, tmp_path: Path
) -> None:
    """What the operator did by hand instead, only the operator can undo."""
    two_steps(cast, fails=True)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        await skip(harness, handle.id, "done by phone")
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]


async def test_a_skipped_step_that_waits_for_its_next_try_never_runs(
    cast: Cast, tmp_path: Path
) -> None:
    one_effect(cast)

    async def in_an_hour(*_: Any) -> None:
        raise Retry("not yet", after=3600)

    cast.on_act = in_an_hour
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        sql = "SELECT 1 FROM outboxd_inbox WHERE attempts = 1 AND state = 'waiting'"
        await wait_until(lambda: harness.column("courier", sql), "the effect has failed once")
        cast.mend()
        await skip(harness, handle.id, "by hand")
        assert await handle.result() == "by hand"
        harness.advance(4000)
        await harness.until_idle()
        assert await log(harness, "courier") == []


async def test_a_skipped_step_that_runs_is_not_tried_again(cast: Cast, tmp_path: Path) -> None:
    one_effect(cast)
    gate = cast.gate_effects()
    tries = 0

    async def fail(*_: Any) -> None:
        nonlocal tries
        tries += 1
        await gate()
        raise ConnectionError("no answer")

    cast.on_act = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await skip(harness, handle.id, "by hand")
        assert await handle.result() == "by hand"
        sql = "SELECT 1 FROM outboxd_inbox WHERE kind = 'in' AND id LIKE '%~close'"
        await wait_until(lambda: harness.column("courier", sql), "the close waits for it")
        gate.open.set()
        await harness.until_idle()
        assert (tries, await letters(harness, "courier")) == (1, [])


async def test_a_skipped_step_that_was_carried_out_all_the_same_is_undone(
    cast: Cast, tmp_path: Path
) -> None:
    """Its own answer comes too late for the saga, but the undo finds what it did."""
    one_effect(cast, fails=True)
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await skip(harness, handle.id, "by hand")
        gate.open.set()
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        await harness.until_idle()
        assert await log(harness, "courier") == ["act x", "unact x"]
        assert cast.undone == [(f"{handle.id}#1", True, b'"act x"')]
        assert "late" in await journal(harness, handle.id)


async def test_a_sleep_is_skipped_with_nothing(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep("1h")
        return "awake"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        with pytest.raises(Refused, match="Expected `null`"):
            await skip(harness, handle.id, "awake")
        with pytest.raises(Refused, match="waits for step 1"):
            await skip(harness, handle.id, step=2)
        await skip(harness, handle.id)
        assert await handle.result() == "awake"
        with pytest.raises(Refused, match="has ended: completed"):
            await skip(harness, handle.id)


async def test_a_dead_undo_is_skipped_once_it_was_made_by_hand(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast, fails=True)

    def no(*_: Any) -> None:
        raise Unrecoverable("the till is locked")

    cast.on_undo = no
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: undo")
        assert "the till is locked" in (row.detail or "")
        cast.mend()
        await skip(harness, handle.id)
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a", "do b", "undo a"]
        assert await letters(harness, "worker") == [("Undo", "closed")]
        assert "undo_skipped" in await journal(harness, handle.id)
        assert await harness.column("worker", "SELECT state FROM outboxd_fence ORDER BY id") == [
            "undone",
            "undone",
        ]


async def test_past_the_point_of_no_return_a_skip_goes_on(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        saga.point_of_no_return()
        return await saga.call(Do(id=go.id, step="b"))

    cast.refuse_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: forward")
        await skip(harness, handle.id, "shipped by hand")
        assert await handle.result() == "shipped by hand"


async def test_a_skipped_answer_is_found_again_after_a_restart(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast)
    cast.break_step("a")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        cast.on_do = cast.later
        await skip(harness, handle.id, "by hand")
        sql = "SELECT 1 FROM outboxd_inbox WHERE attempts = 1"
        await wait_until(lambda: harness.column("worker", sql), "the second step waits")
    cast.mend()
    async with hosting(*cast.participants, data=tmp_path, clock=harness.clock) as harness:
        harness.advance(20)
        found = await harness.runtime.handle(handle.id)
        assert await found.result() == "by hand, do b"


async def test_a_saga_that_waits_for_no_step_cannot_be_skipped(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        raise RuntimeError("a bug in the first step")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: bug")
        with pytest.raises(Refused, match="waits for no step"):
            await skip(harness, handle.id)


async def test_a_skipped_call_does_not_run_when_its_participant_comes_back(
    cast: Cast, tmp_path: Path
) -> None:
    """Call and close are both in its stream, in the order in which they were sent."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        saga.point_of_no_return()
        return await saga.call(Do(id=go.id))

    async with hosting(cast.desk, data=tmp_path) as harness:
        skipped = await harness.start(Go(id="1"))
        resolved = await harness.start(Go(id="2"))
        killed = await harness.start(Go(id="3"))
        await harness.hurry(lambda: is_repeated(harness), 30)
        await skip(harness, skipped.id, "shipped by hand")
        assert await skipped.result() == "shipped by hand"
        await resolve(harness, resolved.id, "compensated")
        await harness.request("saga.kill", "desk", killed.id)
    async with hosting(
        *cast.participants, data=tmp_path, clock=harness.clock, stream=harness.stream
    ) as harness:
        after = await harness.start(Go(id="4"))
        assert await after.result() == "do a"
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a"]


async def is_repeated(harness: Harness) -> bool:
    return await harness.column("desk", "SELECT min(repeats) > 0 FROM outboxd_call") == [1]
