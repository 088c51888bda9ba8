"""A call that starts a saga: whoever made the call may take it back, and knows what is undone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from outboxd import Cancelled, Command, Participant, Reject, Rejected, Saga, TimedOut, Tx
from outboxd.message import in_stream
from outboxd.monitor import Monitor
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Act,
    Cast,
    Do,
    Gate,
    Go,
    Unact,
    Undo,
    hosting,
    log,
    until_step,
    write,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["kept", "forgotten"], autouse=True)
def memory(request: pytest.FixtureRequest) -> None:
    """Everything here also holds for coroutines that are rebuilt at each move."""
    if request.param == "forgotten":
        request.getfixturevalue("forgetful")


DESK = in_stream("desk")
CHILD = "desk/trip/1"
PARENT = "office/plan/1"


class Plan(Command[str], to="office", key="id"):
    """Starts the parent."""

    id: str


class Ungo(Command[None], to="desk", key="id"):
    """Undoes what a finished child has done."""

    id: str


Body = Callable[[Saga, Plan], Awaitable[str]]


class Family:
    """A parent at the office, its child at the desk, and whom they work with."""

    def __init__(self) -> None:
        self.cast = Cast()
        self.known: list[tuple[bool, bytes | None]] = []
        self.office = Participant("office")
        family = self

        @self.cast.desk.handle
        def ungo(tx: Tx, cmd: Ungo) -> None:
            assert tx.step is not None
            result = tx.step.result
            family.known.append((tx.step.known, None if result is None else bytes(result)))
            write(tx, cmd.id, "ungone")

    def parent(self, body: Body) -> None:
        @self.office.saga
        async def plan(saga: Saga, cmd: Plan) -> str:
            return await body(saga, cmd)

    def child(self, *, forward: bool = False) -> None:
        """A step of the worker, then one of the courier."""

        @self.cast.desk.saga
        async def trip(saga: Saga, go: Go) -> str:
            await saga.call(Do(id=go.id), undo=Undo(id=go.id))
            if forward:
                saga.point_of_no_return()
                return await saga.call(Act(id=go.id))
            return await saga.call(Act(id=go.id), undo=Unact(id=go.id))

    def host(self, data: Path):  # type: ignore[no-untyped-def]
        return hosting(self.office, *self.cast.participants, data=data)


@pytest.fixture
def family() -> Family:
    return Family()


async def and_fails(saga: Saga, cmd: Plan) -> str:
    await saga.call(Go(id=cmd.id), undo=Ungo(id=cmd.id))
    saga.fail("no more")


async def with_undo(saga: Saga, cmd: Plan) -> str:
    return await saga.call(Go(id=cmd.id), undo=Ungo(id=cmd.id))


async def without_undo(saga: Saga, cmd: Plan) -> str:
    return await saga.call(Go(id=cmd.id))


async def state(harness: Harness, saga_id: str) -> str:
    return (await harness.saga(saga_id)).state


async def until_acting(harness: Harness) -> None:
    await wait_until(lambda: harness.column("courier", "SELECT 1 FROM outboxd_inbox"))


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
        gate.open.set()
        await harness.retry(CHILD)
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


# Started without waiting.


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
