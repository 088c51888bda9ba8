"""Past its point of no return a saga asks again until it succeeds, or stands."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from outboxd import (
    Refused,
    Saga,
)
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    PATIENT_S,
    Cast,
    Do,
    Go,
    Undo,
    hosting,
    letters,
    log,
    sent_to,
)
from tests.services.trips import WORKER

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


B = b'"step":"b"'


def forward(cast: Cast) -> None:
    """A saga whose second step must succeed."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        saga.point_of_no_return()
        return await saga.call(Do(id=go.id, step="b"))


async def test_past_it_a_timeout_repeats_the_same_message(cast: Cast, tmp_path: Path) -> None:
    forward(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(WORKER, B)
        handle = await harness.start(Go(id="1"))
        await until_forward(harness)
        for repeats in (1, 2, 3):
            await harness.hurry(partial(have_repeated, harness, repeats), 30)
        assert (await harness.saga(handle.id)).state == "running"
        with pytest.raises(Refused, match="past its point of no return"):
            await harness.cancel(handle.id)
        harness.stream.release(WORKER)
        assert await handle.result() == "do b"
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a", "do b"]
        ids = [e.id for e in sent_to(harness, "worker") if e.id == f"{handle.id}#2"]
        assert len(ids) >= 4  # on a busy machine time passes more often than we look


async def until_forward(harness: Harness) -> None:
    """Waits for the second call: before, a timeout would unwind the saga."""
    sql = "SELECT 1 FROM outboxd_call WHERE pos = 2"
    await wait_until(lambda: harness.column("desk", sql), "the second call is open")


async def have_repeated(harness: Harness, times: int) -> bool:
    found = await harness.column("desk", "SELECT max(repeats) FROM outboxd_call")
    return bool(found[0] is not None and found[0] >= times)


async def test_past_it_a_call_that_died_is_repeated_until_it_succeeds(
    cast: Cast, tmp_path: Path
) -> None:
    forward(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_forward(harness)
        await harness.hurry(lambda: have_repeated(harness, 3), 10)
        assert (await harness.saga(handle.id)).state == "running"
        cast.mend()
        await harness.hurry(lambda: is_in(harness, handle.id, "completed"), 10)
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a", "do b"]
        assert {state for _, state in await letters(harness, "worker")} == {"replayed"}


async def is_in(harness: Harness, saga_id: str, state: str) -> bool:
    return (await harness.saga(saga_id)).state == state


async def test_past_it_the_patience_has_an_end(cast: Cast, tmp_path: Path) -> None:
    forward(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(WORKER, B)
        handle = await harness.start(Go(id="1"))
        await until_forward(harness)
        await harness.hurry(lambda: have_repeated(harness, 1), 30)
        harness.advance(PATIENT_S)
        row = await harness.until_saga(handle.id, "stuck: forward")
        assert row.detail == "Do was not answered for a day"
        harness.stream.release(WORKER)
        assert await handle.result() == "do b"


async def test_past_it_a_rejection_stands_and_is_asked_again(cast: Cast, tmp_path: Path) -> None:
    forward(cast)
    cast.refuse_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: forward")
        assert row.detail == "Do was rejected: enough"
        cast.mend()
        await harness.retry(handle.id)
        assert await handle.result() == "do b"
        assert await log(harness, "worker") == ["do a", "do b"]


async def test_past_it_a_discarded_letter_leaves_a_saga_that_a_retry_moves(
    cast: Cast, tmp_path: Path
) -> None:
    forward(cast)
    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: letters(harness, "worker"))
        await harness.discard("worker", 1, reason="by mistake")
        await harness.until_saga(handle.id, "stuck: forward")
        cast.mend()
        await harness.retry(handle.id)
        assert await handle.result() == "do b"


async def test_past_it_failing_is_a_bug(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        saga.point_of_no_return()
        saga.fail("too late")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: bug")
        assert "failed after its point of no return: too late" in (row.detail or "")
