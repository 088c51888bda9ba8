"""A saga with a bug, or whose code changed, stands until a retry moves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outboxd import (
    Cancelled,
    Refused,
    Reject,
    Rejected,
    Saga,
    TimedOut,
    Tx,
)
from outboxd.testing import wait_until
from tests.promises.cast import (
    PATIENT_S,
    Act,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
    hosting,
    letters,
    log,
    until_step,
    write,
)
from tests.services.trips import two_steps

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


class Bug:
    """Raises where it is called, until it is fixed."""

    def __init__(self) -> None:
        self.is_there = True

    def __call__(self, *_: Any) -> None:
        if self.is_there:
            raise RuntimeError("a bug")


async def test_a_bug_in_the_first_step_is_retried_after_its_fix(cast: Cast, tmp_path: Path) -> None:
    bug = Bug()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.run(write, go.id, "first")
        bug()
        return await saga.call(Do(id=go.id))

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: bug")
        assert "RuntimeError: a bug" in (row.detail or "")
        assert Path(__file__).name in (row.detail or "")
        assert await log(harness, "desk") == []
        bug.is_there = False
        await harness.retry(handle.id)
        assert await handle.result() == "do a"
        assert await log(harness, "desk") == ["first"]


async def test_a_bug_in_the_first_step_of_a_second_round_stands_as_well(
    cast: Cast, tmp_path: Path
) -> None:
    bug = Bug()
    bug.is_there = False

    @cast.desk.saga(again="after_end")
    async def trip(saga: Saga, go: Go) -> str:
        bug()
        return await saga.run(write, go.id, "ran")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        first = await harness.start(Go(id="1"))
        assert await first.result() == "ran"
        bug.is_there = True
        await harness.start(Go(id="1"))
        await wait_until(lambda: harness.column("desk", "SELECT 1 FROM outboxd_attempt"))
        await harness.until_saga("desk/trip/1@2", "stuck: bug")
        bug.is_there = False
        await harness.retry("desk/trip/1@2")
        await harness.until_saga("desk/trip/1@2", "completed")
        assert await log(harness, "desk") == ["ran", "ran"]


async def test_a_bug_after_an_answer_keeps_nothing_of_that_step(cast: Cast, tmp_path: Path) -> None:
    bug = Bug()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        await saga.run(write, go.id, "second")
        await saga.send(Do(id=go.id, step="sent"))
        bug()
        return await saga.call(Do(id=go.id, step="b"))

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: bug")
        assert await log(harness, "desk") == []
        assert await log(harness, "worker") == ["do a"]
        harness.advance(PATIENT_S)
        bug.is_there = False
        await harness.retry(handle.id)
        assert await handle.result() == "do b"
        assert await log(harness, "desk") == ["second"]
        assert await log(harness, "worker") == ["do a", "do sent", "do b"]


async def test_a_bug_after_a_timeout_is_retried_with_that_timeout(
    cast: Cast, tmp_path: Path
) -> None:
    bug = Bug()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            return await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        except TimedOut:
            bug()
            return "in time"

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        harness.advance(61)
        await harness.until_saga(handle.id, "stuck: bug")
        assert await harness.rows("desk", "SELECT * FROM outboxd_undo") == []
        bug.is_there = False
        await harness.retry(handle.id)
        await until_step(harness, handle.id, "closing")
        gate.open.set()
        assert await handle.result() == "in time"
        assert await log(harness, "courier") == ["act x", "unact x"]


async def test_a_bug_after_a_sleep_does_not_sleep_again(cast: Cast, tmp_path: Path) -> None:
    bug = Bug()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep("24h")
        bug()
        return "awake"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 86400s")
        harness.advance(86400)
        await harness.until_saga(handle.id, "stuck: bug")
        bug.is_there = False
        await harness.retry(handle.id)
        assert await handle.result() == "awake"


async def test_a_bug_in_a_local_undo_does_not_lose_the_others(cast: Cast, tmp_path: Path) -> None:
    bug = Bug()

    def put_back(tx: Tx, id: str) -> None:
        bug()
        write(tx, id, "put back")

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        saga.undo(put_back, go.id)
        await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        saga.fail("no more")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: bug")
        bug.is_there = False
        await harness.retry(handle.id)
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "do b", "undo b", "undo a"]
        assert await log(harness, "desk") == ["put back"]


async def test_a_saga_stuck_on_a_bug_is_cancelled(cast: Cast, tmp_path: Path) -> None:
    bug = Bug()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        bug()
        return "never"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: bug")
        await harness.cancel(handle.id, "never mind")
        with pytest.raises(Cancelled, match="never mind"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "do b", "undo b", "undo a"]
        await harness.until_idle()
        assert await harness.rows("desk", "SELECT id FROM outboxd_inbox") == []


async def test_a_saga_that_never_got_past_its_first_bug_is_cancelled(
    cast: Cast, tmp_path: Path
) -> None:
    bug = Bug()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        bug()
        return "never"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: bug")
        await harness.cancel(handle.id, "never mind")
        with pytest.raises(Cancelled, match="never mind"):
            await handle.result()
        await harness.until_idle()
        assert await harness.rows("desk", "SELECT id FROM outboxd_inbox") == []


async def test_only_a_stuck_saga_is_retried(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep("1h")
        return "awake"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        with pytest.raises(Refused, match="is running, not stuck"):
            await harness.retry(handle.id)
        with pytest.raises(Refused, match="there is no saga desk/trip/2"):
            await harness.retry("desk/trip/2")


async def test_a_saga_that_awaits_something_else_says_what_to_do(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await cast.outside()
        return "never"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: bug")
        assert "it may await only what its Saga offers" in (row.detail or "")


async def test_a_rejecting_worker_is_no_bug(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast)

    def refuse(*_: Any) -> None:
        raise Reject("no")

    cast.on_do = refuse
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        with pytest.raises(Rejected, match="no"):
            await handle.result()
        assert await letters(harness, "worker") == []
        assert await harness.rows("worker", "SELECT * FROM outboxd_attempt") == []


# Changed code.


async def test_changed_code_parks_a_saga_with_both_sides_shown(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast)
    cast.on_do = cast.later
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: harness.column("worker", "SELECT 1 FROM outboxd_inbox"))

    other = Cast()

    @other.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id))

    async with hosting(*other.participants, data=tmp_path, clock=harness.clock) as harness:
        harness.advance(20)
        row = await harness.until_saga(handle.id, "stuck: code changed")
        assert row.detail == "step 1: the journal has call Do, the code asks for call Act (step 1)"

    fixed = Cast()
    two_steps(fixed)
    async with hosting(*fixed.participants, data=tmp_path, clock=harness.clock) as harness:
        await harness.retry(handle.id)
        await harness.until_saga(handle.id, "completed")
        assert await log(harness, "worker") == ["do a", "do b"]


async def test_a_started_saga_keeps_its_version(cast: Cast, tmp_path: Path) -> None:
    two_steps(cast)
    cast.on_do = cast.later
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="1"))
        await wait_until(lambda: harness.column("worker", "SELECT 1 FROM outboxd_inbox"))

    newer = Cast()

    @newer.desk.saga(version=2)
    async def trip(saga: Saga, go: Go) -> str:
        first = await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        if saga.version < 2:
            return f"{first}, the old way"
        return f"{first}, {await saga.call(Act(id=go.id))}"

    async with hosting(*newer.participants, data=tmp_path, clock=harness.clock) as harness:
        old, new = await harness.start(Go(id="1")), await harness.start(Go(id="2"))
        harness.advance(20)
        assert await old.result() == "do a, the old way"
        assert await new.result() == "do a, act x"
