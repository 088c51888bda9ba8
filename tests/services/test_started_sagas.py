"""A saga that another one starts without waiting, and asks for its end later, or never."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import (
    Cancelled,
    Rejected,
    Saga,
    TimedOut,
)
from outboxd.monitor import Monitor
from outboxd.retry import DAY_S
from outboxd.store.retention import KEEP_S
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Act,
    Gate,
    Go,
    hosting,
    until_step,
)
from tests.services.family import (
    CHILD,
    PARENT,
    Family,
    Plan,
    Ungo,
    state,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


async def test_a_started_child_is_waited_for_later(family: Family, tmp_path: Path) -> None:
    """Its end may come before it is asked for, or after."""

    async def body(saga: Saga, cmd: Plan) -> str:
        early = await saga.start(Go(id="early"))
        late = await saga.start(Go(id="late"))
        await saga.sleep("20s")
        return f"{await early.result()}, {await late.result()}, {await late.result()}"

    family.parent(body)
    family.child()
    gate = Gate()

    async def act(ctx: object, cmd: Act) -> None:
        if cmd.id == "late":
            await gate()

    family.cast.on_act = act
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await harness.until_saga("desk/trip/early", "completed")
        await gate.reached.wait()
        assert await state(harness, handle.id) == "running"
        harness.advance(21)
        await wait_until(lambda: harness.column("desk", "SELECT 1 FROM outboxd_waiter"))
        with Monitor(tmp_path) as monitor:
            [waits] = monitor.why(handle.id).waits_for
            steps = [(step.kind, step.state) for step in monitor.saga(handle.id).steps]
        assert "waits there for the end of the saga desk/trip/late" in waits
        assert steps[:2] == [("started", "started"), ("started", "started")]
        gate.open.set()
        assert await handle.result() == "act x, act x, act x"


async def and_fails_after(saga: Saga, cmd: Plan) -> str:
    await saga.start(Go(id=cmd.id), undo=Ungo(id=cmd.id))
    await saga.sleep("30s")
    saga.fail("no more")


async def test_a_started_child_is_cancelled_when_its_starter_unwinds(
    family: Family, tmp_path: Path
) -> None:
    family.parent(and_fails_after)
    family.child()
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        harness.advance(31)
        await harness.until_saga(CHILD, "compensating")
        assert await state(harness, handle.id) == "compensating"
        gate.open.set()
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert await state(harness, CHILD) == "cancelled"
        assert family.known == []


async def test_a_started_child_that_has_completed_is_undone(family: Family, tmp_path: Path) -> None:
    family.parent(and_fails_after)
    family.child()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await harness.until_saga(CHILD, "completed")
        harness.advance(31)
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert family.known == [(True, b'"act x"')]


async def test_a_child_that_its_participant_has_forgotten_is_undone_all_the_same(
    family: Family, tmp_path: Path
) -> None:
    async def body(saga: Saga, cmd: Plan) -> str:
        child = await saga.start(Go(id=cmd.id), undo=Ungo(id=cmd.id))
        await child.result()
        await saga.sleep("40d")
        saga.fail("no more")

    family.parent(body)
    family.child()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await until_step(harness, PARENT, "sleep 3.456e+06s")
        harness.advance(35 * DAY_S)
        await harness.runtime.hosted["desk"].prune(harness.clock.now() - KEEP_S)
        assert await harness.rows("desk", "SELECT 1 FROM outboxd_fence") == []
        harness.advance(6 * DAY_S)
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert [known for known, _ in family.known] == [False]


async def test_an_abandoned_child_goes_on(family: Family, tmp_path: Path) -> None:
    async def body(saga: Saga, cmd: Plan) -> str:
        child = await saga.start(Go(id=cmd.id), on_cancel="abandon")
        return await child.result()

    family.parent(body)
    family.child()
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        await harness.cancel(handle.id, "enough")
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        assert await state(harness, CHILD) == "running"
        gate.open.set()
        await harness.until_saga(CHILD, "completed")


async def test_a_child_that_nobody_waits_for_outlives_its_starter(
    family: Family, tmp_path: Path
) -> None:
    async def body(saga: Saga, cmd: Plan) -> str:
        await saga.start(Go(id=cmd.id))
        return "done"

    family.parent(body)
    family.child()
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        assert await handle.result() == "done"
        await gate.reached.wait()
        gate.open.set()
        await harness.until_saga(CHILD, "completed")
        await harness.until_idle()


async def test_a_child_s_no_is_heard_by_whoever_asks_for_its_result(
    family: Family, tmp_path: Path
) -> None:
    async def body(saga: Saga, cmd: Plan) -> str:
        child = await saga.start(Go(id=cmd.id))
        for _ in range(2):
            try:
                await child.result()
            except Rejected as no:
                said = no.reason
        return said

    @family.cast.desk.saga(again="refuse")
    async def trip(saga: Saga, go: Go) -> str:
        saga.fail("sold out")

    family.parent(body)
    async with family.host(tmp_path) as harness:
        failed = await harness.start(Plan(id="1"))
        assert await failed.result() == "sold out"
        other = await harness.start(Go(id="2"))
        with pytest.raises(Rejected):
            await other.result()
        refused = await harness.start(Plan(id="2"))
        assert await refused.result() == "desk/trip/2 was started before"


async def test_a_child_that_is_late_may_be_asked_again(family: Family, tmp_path: Path) -> None:
    async def body(saga: Saga, cmd: Plan) -> str:
        child = await saga.start(Go(id=cmd.id))
        try:
            return await child.result(timeout="30s")
        except TimedOut:
            return f"late: {await child.result(timeout='1h')}"

    family.parent(body)
    family.child()
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        harness.advance(31)
        await wait_until(lambda: has_timed_out(harness))
        gate.open.set()
        assert await handle.result() == "late: act x"


async def has_timed_out(harness: Harness) -> bool:
    kinds = await harness.column("office", "SELECT kind FROM outboxd_journal")
    return "timed_out" in kinds


async def test_a_child_that_never_started_is_told_with_its_letter(
    family: Family, tmp_path: Path
) -> None:
    """As when the desk runs an older version, that does not know the command."""

    async def body(saga: Saga, cmd: Plan) -> str:
        child = await saga.start(Go(id=cmd.id))
        return await child.result()

    family.parent(body)
    async with hosting(family.office, family.cast.desk, data=tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        with pytest.raises(Rejected, match="Go has not started: it is dead letter desk/d-1"):
            await handle.result()


async def test_an_abandoned_child_has_no_undo(family: Family, tmp_path: Path) -> None:
    async def body(saga: Saga, cmd: Plan) -> str:
        await saga.start(Go(id=cmd.id), undo=Ungo(id=cmd.id), on_cancel="abandon")
        return "never"

    family.parent(body)
    family.child()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        row = await harness.until_saga(handle.id, "stuck: bug")
        assert "an abandoned child is not undone" in (row.detail or "")
        await harness.request("saga.kill", "office", handle.id)
