"""A call that starts a saga: whoever made the call may take it back, and knows what is undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import (
    Cancelled,
    Reject,
    Rejected,
    Saga,
    TimedOut,
)
from outboxd.monitor import Monitor
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Act,
    Do,
    Go,
    Unact,
    Undo,
    envelope,
    hosting,
    log,
    until_step,
)
from tests.services.family import (
    CHILD,
    DESK,
    PARENT,
    Body,
    Family,
    Plan,
    Ungo,
    and_fails,
    state,
    with_undo,
    without_undo,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


@pytest.mark.parametrize("body", [with_undo, without_undo])
async def test_a_child_under_way_is_cancelled_with_its_caller(
    body: Body, family: Family, tmp_path: Path
) -> None:
    family.parent(body)
    family.child()
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        await harness.cancel(handle.id, "enough")
        await harness.until_saga(CHILD, "compensating")
        assert await state(harness, handle.id) == "compensating"
        gate.open.set()
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        child = await harness.saga(CHILD)
        assert (child.state, child.reason) == ("cancelled", f"{PARENT} takes its call back")
        assert await log(harness, "worker") == ["do a", "undo a"]
        assert await log(harness, "courier") == ["act x", "unact x"]
        assert family.known == []


async def test_the_undo_is_answered_only_when_the_child_has_ended(
    family: Family, tmp_path: Path
) -> None:
    family.parent(with_undo)
    family.child()
    gate, undoing = family.cast.gate_effects(), family.cast.gate_effects(undo=True)
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        gate.open.set()
        await harness.until_saga(CHILD, "completed")
        assert await handle.result() == "act x"
        second = await harness.start(Plan(id="2"))
        gate = family.cast.gate_effects()
        await gate.reached.wait()
        await harness.cancel(second.id)
        gate.open.set()
        await undoing.reached.wait()
        assert await state(harness, second.id) == "compensating"
        with Monitor(tmp_path) as monitor:
            [waits] = monitor.why(second.id).waits_for
        assert "is held there until the saga desk/trip/2 has moved" in waits
        undoing.open.set()
        with pytest.raises(Cancelled):
            await second.result()


async def test_a_finished_child_is_undone_with_its_result_known(
    family: Family, tmp_path: Path
) -> None:
    family.parent(and_fails)
    family.child()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert family.known == [(True, b'"act x"')]
        assert await log(harness, "desk") == ["ungone"]
        assert await state(harness, CHILD) == "completed"


async def test_a_child_past_its_point_of_no_return_ends_first_and_is_then_undone(
    family: Family, tmp_path: Path
) -> None:
    family.parent(with_undo)
    family.child(forward=True)
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        await harness.cancel(handle.id, "enough")
        sql = "SELECT 1 FROM outboxd_inbox WHERE state = 'held'"
        await wait_until(lambda: harness.column("desk", sql), "the undo waits")
        assert await state(harness, CHILD) == "running"
        gate.open.set()
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        assert await state(harness, CHILD) == "completed"
        assert family.known == [(True, b'"act x"')]
        assert await log(harness, "desk") == ["ungone"]


async def test_a_child_that_undid_itself_leaves_nothing_to_undo(
    family: Family, tmp_path: Path
) -> None:
    async def goes_on(saga: Saga, cmd: Plan) -> str:
        try:
            await saga.call(Go(id=cmd.id), undo=Ungo(id=cmd.id), timeout="30s")
        except TimedOut:
            await saga.sleep("1h")
        return "went on"

    family.parent(goes_on)
    family.child()
    gate = family.cast.gate_effects()

    async def no(*_: object) -> None:
        await gate()
        raise Reject("no courier")

    family.cast.on_act = no
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        gate.open.set()
        with pytest.raises(Rejected, match="no courier"):
            await handle.result()
        assert family.known == []


async def test_a_call_that_times_out_takes_its_saga_back_though_the_code_goes_on(
    family: Family, tmp_path: Path
) -> None:
    async def goes_on(saga: Saga, cmd: Plan) -> str:
        try:
            return await saga.call(Go(id=cmd.id), undo=Ungo(id=cmd.id), timeout="30s")
        except TimedOut:
            return "went on"

    family.parent(goes_on)
    family.child()
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        harness.advance(31)
        await harness.until_saga(CHILD, "compensating")
        gate.open.set()
        assert await handle.result() == "went on"
        assert await state(harness, CHILD) == "cancelled"
        assert await log(harness, "courier") == ["act x", "unact x"]


async def test_a_child_that_stands_is_cancelled_all_the_same(
    family: Family, tmp_path: Path
) -> None:
    """On a dead letter, on a bug after a step, and on a bug in its first step."""

    async def buggy(saga: Saga, go: Go) -> str:
        if go.id == "letter":
            await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        if go.id == "late":
            await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        raise RuntimeError("a bug")

    @family.cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await buggy(saga, go)

    family.parent(with_undo)
    family.cast.break_step("b")
    async with family.host(tmp_path) as harness:
        for key, stuck in (("letter", "letter"), ("late", "bug"), ("early", "bug")):
            handle = await harness.start(Plan(id=key))
            await harness.until_saga(f"desk/trip/{key}", f"stuck: {stuck}")
            await harness.cancel(handle.id, "enough")
            with pytest.raises(Cancelled, match="enough"):
                await handle.result()
            assert await state(harness, f"desk/trip/{key}") == "cancelled"
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a", "undo a"]
        assert await harness.rows("desk", "SELECT * FROM outboxd_inbox") == []


async def test_a_bug_on_the_child_s_way_out_is_the_child_s(family: Family, tmp_path: Path) -> None:
    is_broken = True

    @family.cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            return await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        except Cancelled:
            if is_broken:
                raise RuntimeError("a bug on the way out") from None
            raise

    family.parent(with_undo)
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        await harness.cancel(handle.id, "enough")
        await harness.until_saga(CHILD, "stuck: bug")
        assert await state(harness, handle.id) == "compensating"
        is_broken = False
        await harness.retry(CHILD)
        await harness.until_saga(CHILD, "compensating")
        gate.open.set()  # not before: an answer that is held with the cancellation may pass it
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        await harness.until_idle()
        assert await log(harness, "courier") == ["act x", "unact x"]
        assert await harness.rows("desk", "SELECT * FROM outboxd_inbox") == []


async def test_of_a_killed_child_it_is_unknown_what_it_did(family: Family, tmp_path: Path) -> None:
    family.parent(with_undo)
    family.child(forward=True)
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        await harness.cancel(handle.id, "enough")
        sql = "SELECT 1 FROM outboxd_inbox WHERE state = 'held'"
        await wait_until(lambda: harness.column("desk", sql), "the undo waits")
        await harness.request("saga.kill", "desk", CHILD)
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        assert family.known == [(False, None)]
        gate.open.set()


async def test_who_only_joined_a_saga_does_not_cancel_it(family: Family, tmp_path: Path) -> None:
    family.parent(with_undo)
    family.child()
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        first = await harness.start(Go(id="1"))
        await gate.reached.wait()
        handle = await harness.start(Plan(id="1"))
        await wait_until(lambda: harness.column("desk", "SELECT 1 FROM outboxd_waiter"))
        await harness.cancel(handle.id, "enough")
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        assert await state(harness, CHILD) == "running"
        gate.open.set()
        assert await first.result() == "act x"
        assert family.known == []


async def test_a_call_that_never_started_its_saga_never_does(
    family: Family, tmp_path: Path
) -> None:
    family.parent(with_undo)
    family.child()
    async with family.host(tmp_path) as harness:
        harness.stream.hold(DESK)
        handle = await harness.start(Plan(id="1"))
        await until_step(harness, handle.id, "Go")
        harness.advance(700)
        await harness.until_saga(handle.id, "compensating")
        harness.stream.release(DESK)
        with pytest.raises(Rejected, match="Go was not answered"):
            await handle.result()
        assert await log(harness, "courier") in ([], ["act x", "unact x"])
        assert family.known in ([], [(True, b'"act x"')])


async def test_a_child_taken_back_in_the_batch_that_starts_it_waits_for_nothing_more(
    family: Family, tmp_path: Path
) -> None:
    """What stays of a call whose saga has ended would be due again and again, for ever."""
    family.child()
    async with family.host(tmp_path) as harness:
        desk = harness.runtime.hosted["desk"]
        call = envelope(Go(id="1"), "call", call=1)
        undo = envelope(Ungo(id="1"), "call~undo", call=1, kind="undo", undoes="call")
        await desk.committer.commit(lambda cx: desk.delivery.accept(cx, [call, undo]))
        await harness.until_saga(CHILD, "cancelled")
        assert await log(harness, "worker") in ([], ["do a", "undo a"])
        assert await harness.rows("desk", "SELECT * FROM outboxd_call") == []


async def test_a_killed_caller_leaves_its_child_and_a_skipped_call_does_not(
    family: Family, tmp_path: Path
) -> None:
    family.parent(with_undo)
    family.child()
    gate = family.cast.gate_effects()
    async with family.host(tmp_path) as harness:
        killed, skipped = await harness.start(Plan(id="1")), await harness.start(Plan(id="2"))
        await wait_until(lambda: are_acting(harness, 2))
        await harness.request("saga.kill", "office", killed.id)
        await harness.request("saga.skip", "office", skipped.id, {"value": "by hand"})
        assert await skipped.result() == "by hand"
        await harness.until_saga("desk/trip/2", "compensating")
        gate.open.set()
        await harness.until_saga("desk/trip/1", "completed")
        await harness.until_saga("desk/trip/2", "cancelled")


async def are_acting(harness: Harness, count: int) -> bool:
    return await harness.column("courier", "SELECT count(*) FROM outboxd_inbox") == [count]


async def test_an_undo_waits_for_its_child_over_a_restart(tmp_path: Path) -> None:
    family = Family()
    family.parent(with_undo)
    family.child()
    undoing = family.cast.gate_effects(undo=True)
    gate = family.cast.gate_effects()
    async with hosting(
        family.office, *family.cast.participants, data=tmp_path, drain_s=0.05
    ) as harness:
        handle = await harness.start(Plan(id="1"))
        await gate.reached.wait()
        await harness.cancel(handle.id, "enough")
        gate.open.set()
        await undoing.reached.wait()
        assert await state(harness, CHILD) == "compensating"
    family.cast.mend()
    async with hosting(
        family.office,
        *family.cast.participants,
        data=tmp_path,
        clock=harness.clock,
        stream=harness.stream,
    ) as harness:
        found = await harness.runtime.handle(handle.id)
        with pytest.raises(Cancelled, match="enough"):
            await found.result()
        assert await state(harness, CHILD) == "cancelled"
