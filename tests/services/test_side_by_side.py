"""Several calls of a saga at once: answered, failed, late, raced, and past no return."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import (
    Rejected,
    Saga,
    TimedOut,
)
from outboxd.message import in_stream
from outboxd.testing import Harness
from tests.promises.cast import (
    Act,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
    hosting,
    log,
    sent_to,
    until_step,
)
from tests.services.trips import both_at_once

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


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
            return await harness.column("desk", "SELECT repeats FROM outboxd_call") >= [1]

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
