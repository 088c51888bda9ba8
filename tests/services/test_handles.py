"""What an application does with a saga it started: it cancels it, or waits for its end."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from outboxd import (
    Cancelled,
    NotFound,
    Refused,
    Saga,
    TimedOut,
)
from outboxd.testing import Harness
from tests.promises.cast import (
    Cast,
    Do,
    Go,
    Undo,
    hosting,
    log,
    until_step,
)
from tests.services.trips import WORKER, journal, one_effect

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


DO = b'"type":"Do"'


async def test_an_application_cancels_what_it_started(cast: Cast, tmp_path: Path) -> None:
    one_effect(cast)
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.runtime.start(Go(id="1"))
        await gate.reached.wait()
        with pytest.raises(Refused, match="needs a reason"):
            await handle.cancel(" ")
        await handle.cancel("the customer left")
        assert (await harness.saga(handle.id)).state == "compensating"
        assert (await journal(harness, handle.id))[:2] == ["call", "cancelled"]
        gate.open.set()
        with pytest.raises(Cancelled, match="the customer left"):
            await handle.result()
        with pytest.raises(Refused, match="has ended: cancelled"):
            await harness.runtime.cancel(handle.id, "again")
        with pytest.raises(NotFound, match="there is no saga desk/trip/2"):
            await harness.runtime.cancel("desk/trip/2", "no such saga")
        with pytest.raises(NotFound):
            await harness.runtime.cancel("nobody/trip/2", "no such participant")
        assert await log(harness, "courier") == ["act x", "unact x"]
        sql = "SELECT kind, who, reason FROM outboxd_applied"
        audit = await harness.rows("desk", sql)
        assert audit == [("saga.cancel", "application", "the customer left")]


async def test_a_cancellation_reaches_a_wait_after_a_caught_timeout(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            return await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        except TimedOut:
            await saga.sleep("1h")
            return "slept"

    cast.on_do = cast.later
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(WORKER, DO)
        handle = await harness.runtime.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")
        await harness.hurry(partial(at_step, harness, handle.id, "sleep 3600s"), 30)
        await handle.cancel("enough")
        harness.stream.release(WORKER)
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        assert await log(harness, "worker") == []


async def at_step(harness: Harness, saga_id: str, step: str) -> bool:
    return (await harness.saga(saga_id)).step == step


async def test_a_handle_is_found_while_the_first_step_is_still_tried(
    cast: Cast, tmp_path: Path
) -> None:
    is_broken = True

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        if is_broken:
            raise RuntimeError("not yet")
        return "done"

    async with hosting(*cast.participants, data=tmp_path, chance=lambda: 1.0) as harness:
        handle = await harness.runtime.start(Go(id="1"))
        found = await harness.runtime.handle(handle.id)
        is_broken = False
        await harness.hurry(partial(has_ended, harness, handle.id), 1)
        assert await found.result() == "done"
        with pytest.raises(NotFound, match="there is no saga desk/trip/2"):
            await harness.runtime.handle("desk/trip/2")


async def has_ended(harness: Harness, saga_id: str) -> bool:
    sql = "SELECT 1 FROM outboxd_saga WHERE id = ? AND ended_at IS NOT NULL"
    return bool(await harness.column("desk", sql, saga_id))
