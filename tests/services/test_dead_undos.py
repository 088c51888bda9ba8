"""An undo that died is not forgotten while the saga stands for something else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from outboxd import Participant, Saga, TimedOut, Tx, Unrecoverable
from outboxd.message import MAX_ENVELOPE_BYTES, in_stream
from outboxd.testing import FakeClock, Harness, wait_until
from tests.promises.cast import (
    LOG,
    Act,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
    at_once,
    hosting,
    letters,
    log,
    new_stream,
    write,
)

pytestmark = pytest.mark.anyio


async def die(*_: Any) -> None:
    raise Unrecoverable("no undo")


def a_trip(cast: Cast) -> None:
    """Catches that its first call times out, whose undo is under way from then on."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        with suppress(TimedOut):
            await saga.call(Act(id=go.id), undo=Unact(id=go.id), timeout="60s")
        return await saga.call(Do(id=go.id), undo=Undo(id=go.id))


async def stands_for_both(cast: Cast, harness: Harness) -> str:
    """A saga that stands for its second call's letter while its undo has died, too."""
    gate = cast.gate_effects()
    cast.break_step("a")
    handle = await harness.start(Go(id="1"))
    await gate.reached.wait()
    harness.advance(61)
    await harness.until_saga(handle.id, "stuck: letter")
    cast.on_unact = die
    gate.open.set()
    await wait_until(
        lambda: harness.rows("desk", "SELECT 1 FROM outboxd_undo WHERE died IS NOT NULL")
    )
    assert (await harness.saga(handle.id)).stuck == "letter"
    return handle.id


@pytest.mark.parametrize("memory", [None, "forgetful"])
async def test_the_undo_holds_the_saga_once_the_letter_does_not(
    cast: Cast, tmp_path: Path, memory: str | None, request: pytest.FixtureRequest
) -> None:
    if memory is not None:
        request.getfixturevalue(memory)
    a_trip(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        saga_id = await stands_for_both(cast, harness)
        cast.on_do = lambda *_: None
        await harness.replay("worker", 1)
        row = await harness.until_saga(saga_id, "stuck: undo")
        assert row.detail is not None
        assert row.detail.startswith("courier/d-1: ")
        cast.on_unact = at_once
        await harness.replay("courier", 1)
        await harness.until_saga(saga_id, "completed")
        await harness.until_idle()
        assert await log(harness, "courier") == ["act x", "unact x"]


async def test_the_letter_holds_the_saga_once_the_undo_is_replayed(
    cast: Cast, tmp_path: Path
) -> None:
    a_trip(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        saga_id = await stands_for_both(cast, harness)
        cast.on_unact = at_once
        await harness.replay("courier", 1)
        await wait_until(
            lambda: harness.rows("desk", "SELECT 1 FROM outboxd_undo WHERE died IS NULL")
        )
        harness.advance(120)
        await harness.until_idle()
        assert (await harness.saga(saga_id)).stuck == "letter"
        cast.on_do = lambda *_: None
        await harness.replay("worker", 1)
        await harness.until_saga(saga_id, "completed")


async def test_a_cancelled_saga_stands_for_its_dead_undo(cast: Cast, tmp_path: Path) -> None:
    a_trip(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        saga_id = await stands_for_both(cast, harness)
        await harness.cancel(saga_id)
        await harness.until_saga(saga_id, "stuck: undo")
        cast.on_unact = at_once
        await harness.replay("courier", 1)
        await harness.until_saga(saga_id, "cancelled")


async def test_a_letter_that_holds_its_key_is_closed_with_its_call(tmp_path: Path) -> None:
    desk, worker = Participant("desk"), Participant("worker", schema=LOG)

    @worker.handle(hold_key=True)
    def do(tx: Tx, cmd: Do) -> str:
        raise Unrecoverable("broken")

    @worker.handle
    def undo(tx: Tx, cmd: Undo) -> None:
        write(tx, cmd.id, "undo")

    @desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id), undo=Undo(id=go.id))

    async with hosting(desk, worker, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        await harness.cancel(handle.id)
        await harness.until_saga(handle.id, "cancelled")
        await harness.until_idle()
        assert await letters(harness, "worker") == [("Do", "closed")]
        assert harness.runtime.hosted["worker"].delivery.letters.count == 0
        assert await log(harness, "worker") == []


async def test_a_result_that_just_fits_does_not_make_the_answer_to_its_close_too_big(
    cast: Cast, tmp_path: Path
) -> None:
    worker = Participant("worker", schema=LOG)

    @worker.handle
    def do(tx: Tx, cmd: Do) -> str:
        return "y" * (MAX_ENVELOPE_BYTES - 300)

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            await saga.call(Do(id=go.id), timeout="20s")
        except TimedOut:
            return "late"
        return "in time"

    clock = FakeClock()
    stream = new_stream(clock)
    async with hosting(cast.desk, worker, data=tmp_path, clock=clock, stream=stream) as harness:
        stream.hold(in_stream("desk"), b'"outcome":"ok"')
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: harness.rows("worker", "SELECT 1 FROM outboxd_fence"))
        harness.advance(21)
        await wait_until(lambda: harness.rows("desk", "SELECT 1 FROM outboxd_undo"))
        stream.release(in_stream("desk"))
        assert await handle.result() == "late"
        assert await letters(harness, "worker") == []
