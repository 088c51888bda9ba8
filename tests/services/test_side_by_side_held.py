"""Several calls of a saga at once: some have died, or a person steps in."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import (
    CallFailed,
    Cancelled,
    Saga,
)
from outboxd.monitor import Monitor
from outboxd.testing import wait_until
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
    until_step,
)
from tests.services.trips import both_at_once

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


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
