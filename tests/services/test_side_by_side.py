"""Several calls of a saga at once: answered, failed, stuck, cancelled, and past no return."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import CallFailed, Cancelled, Rejected, Saga, TimedOut
from outboxd.message import in_stream
from outboxd.monitor import Monitor
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Act,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
    hosting,
    letters,
    log,
    sent_to,
    until_step,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["kept", "forgotten"], autouse=True)
def memory(request: pytest.FixtureRequest) -> None:
    """Everything here also holds for coroutines that are rebuilt at each move."""
    if request.param == "forgotten":
        request.getfixturevalue("forgetful")


def both_at_once(cast: Cast) -> None:
    """The worker's step and the courier's, side by side."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        did, acted = await saga.all(
            saga.call(Do(id=go.id), undo=Undo(id=go.id)),
            saga.call(Act(id=go.id), undo=Unact(id=go.id)),
        )
        return f"{did}, {acted}"


async def kinds(harness: Harness) -> list[tuple[str, int]]:
    """What the journal has, in order."""
    rows = await harness.rows("desk", "SELECT kind, pos FROM outboxd_journal ORDER BY n")
    return [(row[0], row[1]) for row in rows]


async def test_calls_side_by_side_are_all_asked_at_once(cast: Cast, tmp_path: Path) -> None:
    both_at_once(cast)
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await until_step(harness, handle.id, "Act")
        gate.open.set()
        assert await handle.result() == "do a, act x"
        assert await kinds(harness) == [
            ("call", 1),
            ("call", 2),
            ("ok", 1),
            ("ok", 2),
            ("ended", 0),
        ]


async def test_a_failure_closes_and_undoes_the_others_at_once(cast: Cast, tmp_path: Path) -> None:
    both_at_once(cast)
    cast.refuse_step("a")
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await harness.until_saga(handle.id, "compensating")
        gate.open.set()
        with pytest.raises(Rejected, match="enough"):
            await handle.result()
        assert await log(harness, "courier") == ["act x", "unact x"]
        assert await log(harness, "worker") == []
        told = await kinds(harness)
        assert told[2:5] == [("rejected", 1), ("dropped", 2), ("undo_sent", 2)]


async def test_with_wait_the_others_come_to_their_end_before_the_failure_is_raised(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            await saga.all(
                saga.call(Do(id=go.id), undo=Undo(id=go.id)),
                saga.call(Act(id=go.id), undo=Unact(id=go.id)),
                on_error="wait",
            )
        except Rejected as no:
            return f"all but one: {no.reason}"
        return "all"

    cast.refuse_step("a")
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await until_step(harness, handle.id, "Act")
        assert (await harness.saga(handle.id)).state == "running"
        gate.open.set()
        assert await handle.result() == "all but one: enough"
        assert await log(harness, "courier") == ["act x"]


async def test_a_race_against_the_clock_is_lost_and_its_call_undone(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        match await saga.race(saga.call(Act(id=go.id), undo=Unact(id=go.id)), saga.sleep("20s")):
            case (0, acted):
                return acted
            case _:
                return await saga.call(Do(id=go.id))

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        harness.advance(21)
        await until_step(harness, handle.id, "closing")
        gate.open.set()
        assert await handle.result() == "do a"
        await harness.until_idle()
        assert await log(harness, "courier") == ["act x", "unact x"]


async def test_a_race_that_is_won_leaves_no_timer_behind(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        first, value = await saga.race(saga.sleep("20s"), saga.call(Do(id=go.id)))
        await saga.sleep("1h")
        return f"{first}: {value}"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        timers = "SELECT pos, kind FROM outboxd_call"
        assert await harness.rows("desk", timers) == [(3, "sleep")]
        harness.advance(3600)
        assert await handle.result() == "1: do a"


# A letter.


async def test_a_letter_of_one_holds_the_saga_though_the_other_is_answered(
    cast: Cast, tmp_path: Path
) -> None:
    both_at_once(cast)
    cast.break_step("a")
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        gate.open.set()
        await until_step(harness, handle.id, "Do")
        row = await harness.saga(handle.id)
        assert (row.state, row.stuck, row.detail) == (
            "stuck",
            "letter",
            "worker/d-1: RuntimeError: step a is broken",
        )
        harness.advance(3600)  # its deadline is suspended
        cast.mend()
        await harness.replay("worker", 1)
        assert await handle.result() == "do a, act x"


async def test_two_letters_hold_it_until_both_are_dealt_with(cast: Cast, tmp_path: Path) -> None:
    both_at_once(cast)

    async def fail(*_: object) -> None:
        raise RuntimeError("no courier")

    cast.break_step("a")
    cast.on_act = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))

        async def both_dead() -> bool:
            found = "SELECT COUNT(*) FROM outboxd_call WHERE stuck = 'letter'"
            return await harness.column("desk", found) == [2]

        await wait_until(both_dead, "both calls hold the saga")
        cast.mend()
        await harness.replay("worker", 1)
        await until_step(harness, handle.id, "Act")
        row = await harness.saga(handle.id)
        assert (row.stuck, row.detail) == ("letter", "courier/d-1: RuntimeError: no courier")
        await harness.replay("courier", 1)
        assert await handle.result() == "do a, act x"


async def test_a_skipped_step_frees_its_saga_from_its_letter(cast: Cast, tmp_path: Path) -> None:
    both_at_once(cast)
    cast.break_step("a")
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        await harness.request("saga.skip", "desk", handle.id, {"value": "by phone", "step": 1})
        await harness.until_saga(handle.id, "running")
        gate.open.set()
        assert await handle.result() == "by phone, act x"
        assert await letters(harness, "worker") == [("Do", "closed")]


async def test_a_race_is_won_though_a_letter_holds_the_saga(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        _, value = await saga.race(
            saga.call(Do(id=go.id), undo=Undo(id=go.id)), saga.call(Act(id=go.id))
        )
        return value

    cast.break_step("a")
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        gate.open.set()
        assert await handle.result() == "act x"
        assert await letters(harness, "worker") == [("Do", "closed")]


async def test_a_call_that_may_fail_on_its_death_fails_the_others(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            await saga.all(
                saga.call(Do(id=go.id), on_dead="fail"),
                saga.call(Act(id=go.id), undo=Unact(id=go.id)),
            )
        except CallFailed as failed:
            return f"without {failed.command}"
        return "with"

    cast.break_step("a")
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await until_step(harness, handle.id, "closing")
        gate.open.set()
        assert await handle.result() == "without Do"
        assert await log(harness, "courier") == ["act x", "unact x"]


# Deadlines.


async def test_each_has_its_own_deadline(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            await saga.all(
                saga.call(Do(id=go.id), timeout="1h"),
                saga.call(Act(id=go.id), undo=Unact(id=go.id), timeout="30s"),
            )
        except TimedOut as late:
            return str(late)
        return "in time"

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(in_stream("worker"), b"Do")
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        harness.advance(31)
        await until_step(harness, handle.id, "closing")
        harness.stream.release(in_stream("worker"))
        gate.open.set()
        assert await handle.result() == "Act was not answered within 30 s"
        assert await log(harness, "courier") == ["act x", "unact x"]


# By hand.


async def test_a_cancel_closes_all_that_is_open(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.all(
            saga.sleep("1h"),
            saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b")),
            saga.call(Act(id=go.id), undo=Unact(id=go.id)),
        )
        return "not reached"

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await until_step(harness, handle.id, "sleep 3600s, Act")
        await harness.cancel(handle.id, "the customer left")
        gate.open.set()
        with pytest.raises(Cancelled, match="the customer left"):
            await handle.result()
        assert await log(harness, "courier") == ["act x", "unact x"]
        assert await log(harness, "worker") == ["do b", "undo b"]
        assert await harness.rows("desk", "SELECT * FROM outboxd_call") == []


async def test_a_killed_saga_waits_for_nothing(cast: Cast, tmp_path: Path) -> None:
    both_at_once(cast)
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await harness.request("saga.kill", "desk", handle.id)
        gate.open.set()
        await harness.until_saga(handle.id, "cancelled")
        await harness.until_idle()
        assert await harness.rows("desk", "SELECT * FROM outboxd_call") == []


async def test_a_bug_after_the_last_answer_is_retried_with_all_of_them(
    cast: Cast, tmp_path: Path
) -> None:
    bug = [True]

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        did, acted = await saga.all(saga.call(Do(id=go.id)), saga.call(Act(id=go.id)))
        if bug:
            raise RuntimeError("a bug")
        return f"{did}, {acted}"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: bug")
        bug.clear()
        await harness.retry(handle.id)
        assert await handle.result() == "do a, act x"


async def test_why_tells_of_each_step_that_is_waited_for(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.all(saga.sleep("1h"), saga.call(Act(id=go.id)), saga.call(Do(id=go.id)))
        return "done"

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await until_step(harness, handle.id, "sleep 3600s, Act")
        with Monitor(tmp_path, harness.clock) as monitor:
            detail = monitor.saga(handle.id)
        asleep, acting = detail.waits_for
        assert asleep.startswith("for time to pass: it sleeps and wakes in")
        assert acting.startswith("for courier: Act (desk/trip/1#2) has run there")
        assert [(step.name, step.state) for step in detail.steps] == [
            ("3600s", "running"),
            ("Act", "running"),
            ("Do", "done"),
        ]
        gate.open.set()
        await until_step(harness, handle.id, "sleep 3600s")
        harness.advance(3600)
        assert await handle.result() == "done"


# Past the point of no return.


def forward(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        saga.point_of_no_return()
        did, acted = await saga.all(saga.call(Do(id=go.id)), saga.call(Act(id=go.id)))
        return f"{did}, {acted}"


async def test_past_it_each_is_repeated_for_itself(cast: Cast, tmp_path: Path) -> None:
    forward(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(in_stream("worker"), b"Do")
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")

        async def is_repeated() -> bool:
            return await harness.column("desk", "SELECT repeats FROM outboxd_call") == [1]

        await harness.hurry(is_repeated, 30)
        harness.stream.release(in_stream("worker"))
        assert await handle.result() == "do a, act x"
        acts = [e for e in sent_to(harness, "courier") if e.type == "Act"]
        assert len({e.id for e in acts}) == 1


async def test_past_it_a_rejection_of_one_stands_and_is_asked_again(
    cast: Cast, tmp_path: Path
) -> None:
    forward(cast)
    cast.refuse_step("a")
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: forward")
        gate.open.set()
        await until_step(harness, handle.id, "Do")
        row = await harness.saga(handle.id)
        assert (row.state, row.detail) == ("stuck", "Do was rejected: enough")
        cast.mend()
        await harness.retry(handle.id)
        assert await handle.result() == "do a, act x"
