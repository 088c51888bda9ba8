"""What a person does to a saga by hand: a step answered, an end stated, a cancellation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from outboxd import (
    Cancelled,
    NotFound,
    Refused,
    Rejected,
    Retry,
    Saga,
    TimedOut,
    Unrecoverable,
)
from outboxd.message import in_stream
from outboxd.monitor import Monitor
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Act,
    Ask,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
    hosting,
    letters,
    log,
    until_step,
)

pytestmark = pytest.mark.anyio

WORKER = in_stream("worker")
DO = b'"type":"Do"'


@pytest.fixture(params=["kept", "forgotten"], autouse=True)
def memory(request: pytest.FixtureRequest) -> None:
    """Everything here also holds for coroutines that are rebuilt at each move."""
    if request.param == "forgotten":
        request.getfixturevalue("forgetful")


async def skip(harness: Harness, saga_id: str, value: Any = None, **args: Any) -> str:
    return await harness.request("saga.skip", "desk", saga_id, {"value": value, **args})


async def resolve(harness: Harness, saga_id: str, state: str, result: Any = None) -> str:
    args = {"state": state, "result": result}
    return await harness.request("saga.resolve", "desk", saga_id, args)


async def journal(harness: Harness, saga_id: str) -> list[str]:
    sql = "SELECT kind FROM outboxd_journal WHERE saga = ? ORDER BY n"
    return await harness.column("desk", sql, saga_id)


def two_steps(cast: Cast, *, fails: bool = False) -> None:
    """A saga of the worker's steps a and b, each with its undo; afterwards it may fail."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        first = await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        second = await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        if fails:
            saga.fail("no more")
        return f"{first}, {second}"


def one_effect(cast: Cast, *, fails: bool = False) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        said = await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        if fails:
            saga.fail("no more")
        return said


# Skip: a step is answered by hand.


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


# Resolve: an end is stated.


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


# Cancel, from an application.


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


# A handle.


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
