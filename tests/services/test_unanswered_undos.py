"""An undo is tried for a day; then a person is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outboxd import (
    Rejected,
    Saga,
)
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    PATIENT_S,
    Act,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
    hosting,
    log,
)
from tests.services.trips import WORKER

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


UNDO = b'"kind":"undo"'


async def test_an_undo_that_nobody_answers_for_a_day_is_told(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        saga.fail("no more")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(WORKER, UNDO)
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "compensating")
        harness.advance(PATIENT_S)
        await harness.until_saga(handle.id, "stuck: undo")
        harness.stream.release(WORKER)
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]


async def test_days_in_which_nobody_was_there_are_not_an_undo_s(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        saga.fail("no more")

    gate = cast.gate_effects(undo=True)
    async with hosting(*cast.participants, data=tmp_path, drain_s=0) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
    clock, stream = harness.clock, harness.stream
    clock.advance(3 * PATIENT_S)
    async with hosting(*cast.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        gate.open.set()
        await harness.until_saga(handle.id, "compensated")
        sql = "SELECT 1 FROM outboxd_journal WHERE kind = 'stuck'"
        assert await harness.rows("desk", sql) == []


async def test_an_undo_that_fails_is_tried_for_a_day(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        saga.fail("no more")

    def fail(*_: Any) -> None:
        raise RuntimeError("locked")

    cast.on_undo = fail
    async with hosting(*cast.participants, data=tmp_path, chance=lambda: 1.0) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.hurry(lambda: have_failed(harness, 5), 3)
        assert (await harness.saga(handle.id)).state == "compensating"
        harness.advance(PATIENT_S)
        await harness.until_saga(handle.id, "stuck: undo")
        await wait_until(lambda: is_said(harness, "worker/d-1: RuntimeError: locked"))


async def is_said(harness: Harness, detail: str) -> bool:
    return await harness.column("desk", "SELECT detail FROM outboxd_saga") == [detail]


async def have_failed(harness: Harness, times: int) -> bool:
    found = await harness.column("worker", "SELECT count(*) FROM outboxd_attempt")
    return bool(found[0] >= times)
