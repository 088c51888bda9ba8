"""A saga whose call died stands, visibly, and the named command moves it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from outboxd import (
    Cancelled,
    Refused,
    Rejected,
    Saga,
    TimedOut,
    Unrecoverable,
)
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    PATIENT_S,
    Act,
    Cast,
    Go,
    Unact,
    at_once,
    hosting,
    letters,
    log,
    until_step,
)
from tests.services.trips import two_steps

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


async def test_a_dead_letter_holds_its_saga_and_a_replay_completes_it(
    cast: Cast, tmp_path: Path
) -> None:
    two_steps(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: letter")
        assert row.detail == "worker/d-1: RuntimeError: step b is broken"
        harness.advance(PATIENT_S)
        assert (await harness.saga(handle.id)).state == "stuck"
        with pytest.raises(Refused, match="outboxd dead replay"):
            await harness.retry(handle.id)
        cast.mend()
        await harness.replay("worker", 1)
        assert await handle.result() == "do a, do b"
        assert await log(harness, "worker") == ["do a", "do b"]
        assert await letters(harness, "worker") == [("Do", "replayed")]
        with pytest.raises(Refused, match="d-1 is replayed"):
            await harness.replay("worker", 1)


async def test_a_replay_that_fails_again_is_the_same_letter(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        for failed in (1, 2, 3):
            await harness.until_saga(handle.id, "stuck: letter")
            await wait_until(partial(is_letter, harness, "dead", failed))
            await harness.replay("worker", 1)
        await wait_until(lambda: is_letter(harness, "dead", 4))
        cast.mend()
        await harness.replay("worker", 1)
        assert await handle.result() == "do a, do b"
        assert await letters(harness, "worker") == [("Do", "replayed")]


async def is_letter(harness: Harness, state: str, failed: int) -> bool:
    sql = "SELECT state, failed FROM outboxd_dead"
    return await harness.rows("worker", sql) == [(state, failed)]


async def test_a_replayed_call_has_its_whole_deadline_again(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        cast.mend()
        cast.on_do = cast.later
        await harness.replay("worker", 1)
        await harness.until_saga(handle.id, "running")
        harness.advance(50)
        harness.advance(11)
        with pytest.raises(Rejected, match="Do was not answered within 60 s"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]


async def test_a_discarded_letter_unwinds_its_saga(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        await harness.discard("worker", 1, reason="sold out")
        with pytest.raises(Rejected, match="discarded: sold out"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]
        assert await letters(harness, "worker") == [("Do", "discarded")]
        with pytest.raises(Refused, match="d-1 is discarded"):
            await harness.replay("worker", 1)


async def test_a_discarded_effect_that_may_have_acted_is_undone(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id), undo=Unact(id=go.id))

    async def half(*_: Any) -> None:
        raise ConnectionError("the answer was lost")

    cast.on_act = half
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        await harness.discard("courier", 1)
        with pytest.raises(Rejected):
            await handle.result()
        assert await log(harness, "courier") == ["unact x"]
        assert cast.undone == [(f"{handle.id}#1", False, None)]


async def test_a_saga_stuck_on_a_letter_is_cancelled(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        await harness.cancel(handle.id, "enough")
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]
        assert await letters(harness, "worker") == [("Do", "closed")]
        with pytest.raises(Refused, match="closed"):
            await harness.replay("worker", 1)


async def test_a_wait_keeps_its_deadline_though_an_undo_got_stuck(
    cast: Cast, tmp_path: Path
) -> None:
    """The first step timed out and its undo died; meanwhile the saga waits for another answer."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            await saga.call(Act(id=go.id, step="slow"), undo=Unact(id=go.id, step="slow"))
        except TimedOut:
            await saga.call(Act(id=go.id, step="stays"), undo=Unact(id=go.id, step="stays"))
        return "never"

    async def bad_undo(_: Any, cmd: Unact) -> None:
        if cmd.step == "slow":
            raise Unrecoverable("no")

    gate = cast.gate_effects()
    cast.on_unact = bad_undo
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        harness.advance(61)
        await until_step(harness, handle.id, "Act")
        await wait_until(lambda: harness.column("desk", "SELECT 1 FROM outboxd_undo"))
        second = cast.gate_effects()
        gate.open.set()
        await second.reached.wait()
        await harness.until_saga(handle.id, "stuck: undo")
        cast.on_unact = at_once
        await harness.replay("courier", 1)
        await harness.until_saga(handle.id, "running")
        harness.advance(61)
        await harness.until_saga(handle.id, "compensating")
        second.open.set()
        with pytest.raises(Rejected, match="was not answered"):
            await handle.result()
