"""A saga that cannot go on stands, visibly, and the named command moves it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from outboxd import Cancelled, Refused, Reject, Rejected, Saga, TimedOut, Tx, Unrecoverable
from outboxd.message import in_stream
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    PATIENT_S,
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
    sent_to,
    until_step,
    write,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["kept", "forgotten"], autouse=True)
def memory(request: pytest.FixtureRequest) -> None:
    """Everything here also holds for coroutines that are rebuilt at each move."""
    if request.param == "forgotten":
        request.getfixturevalue("forgetful")


WORKER = in_stream("worker")
B = b'"step":"b"'
UNDO = b'"kind":"undo"'


class Bug:
    """Raises where it is called, until it is fixed."""

    def __init__(self) -> None:
        self.is_there = True

    def __call__(self, *_: Any) -> None:
        if self.is_there:
            raise RuntimeError("a bug")


def two_steps(cast: Cast) -> None:
    """A saga of the worker's steps a and b, each with its undo."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        first = await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        second = await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        return f"{first}, {second}"


# On a letter.


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


# On a bug.


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
        assert "test_stuck_sagas.py" in (row.detail or "")
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


# Past the point of no return.


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


# Unanswered.


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
