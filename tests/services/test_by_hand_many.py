"""By hand, where a saga waits for several steps at once, for an event, or for its children."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import Cancelled, Refused, Rejected, Saga
from outboxd.testing import wait_until
from tests.promises.cast import Cast, Done, Go, hosting, log
from tests.services.family import Family, Plan
from tests.services.trips import both_at_once, skip

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


async def test_of_several_steps_the_named_one_is_skipped(cast: Cast, tmp_path: Path) -> None:
    both_at_once(cast)
    cast.on_do = cast.later
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        steps = await harness.column("desk", "SELECT pos FROM outboxd_call ORDER BY pos")
        with pytest.raises(Refused, match="name one with --step"):
            await skip(harness, handle.id, "by hand")
        await skip(harness, handle.id, "by hand", step=steps[0])
        gate.open.set()
        assert await handle.result() == "by hand, act x"
        harness.advance(20)
        await harness.until_idle()
        assert await log(harness, "worker") == []


@pytest.mark.parametrize("how", ["cancel", "resolve", "kill"])
async def test_all_that_it_waits_for_is_closed_at_once(
    how: str, cast: Cast, tmp_path: Path
) -> None:
    both_at_once(cast)
    cast.on_do = cast.later
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        sql = "SELECT 1 FROM outboxd_inbox WHERE attempts = 1"
        await wait_until(lambda: harness.column("worker", sql), "the worker has failed once")
        args = {"state": "compensated"} if how == "resolve" else {}
        await harness.request(f"saga.{how}", "desk", handle.id, args)
        gate.open.set()
        with pytest.raises(Rejected if how == "resolve" else Cancelled):
            await handle.result()
        harness.advance(20)
        await harness.until_idle()
        assert await log(harness, "worker") == []
        assert await log(harness, "courier") == (
            ["act x", "unact x"] if how == "cancel" else ["act x"]
        )


def listening(cast: Cast) -> None:
    @cast.desk.saga(receives=(Done,))
    async def trip(saga: Saga, go: Go) -> str:
        done = await saga.receive(Done, timeout="1h")
        return done.step


@pytest.mark.parametrize("how", ["skip", "resolve", "kill"])
async def test_a_saga_that_waits_for_an_event_is_moved_by_hand(
    how: str, cast: Cast, tmp_path: Path
) -> None:
    listening(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: harness.column("desk", "SELECT 1 FROM outboxd_call"))
        if how == "skip":
            with pytest.raises(Refused, match="missing required field"):
                await skip(harness, handle.id, {"id": "1"})
            await skip(harness, handle.id, {"id": "1", "step": "by hand"})
            assert await handle.result() == "by hand"
        elif how == "resolve":
            args = {"state": "completed", "result": "seen"}
            await harness.request("saga.resolve", "desk", handle.id, args)
            assert await handle.result() == "seen"
        else:
            await harness.request("saga.kill", "desk", handle.id)
            with pytest.raises(Cancelled):
                await handle.result()
        await harness.until_idle()


async def test_children_are_waited_for_at_once(cast: Cast, tmp_path: Path) -> None:
    family = Family()

    async def body(saga: Saga, cmd: Plan) -> str:
        one = await saga.start(Go(id="one"))
        two = await saga.start(Go(id="two"))
        first, second = await saga.all(one.result(), two.result())
        return f"{first}, {second}"

    family.parent(body)
    family.child()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        assert await handle.result() == "act x, act x"
