"""Sagas from their start to their end: completed, unwound, failed, cancelled, started twice."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from outboxd import CallFailed, Cancelled, Refused, Reject, Rejected, Saga, Tx, Unrecoverable
from outboxd.testing import wait_until
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
    write,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


async def test_a_saga_completes_with_the_results_of_its_calls(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        did = await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        acted = await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        return await saga.run(write, go.id, f"{did}, {acted}")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "do a, act x"
        assert await log(harness, "desk") == ["do a, act x"]
        assert await log(harness, "worker") == ["do a"]
        assert await log(harness, "courier") == ["act x"]


async def test_a_rejected_saga_is_unwound_the_last_step_first(cast: Cast, tmp_path: Path) -> None:
    def told(tx: Tx, id: str) -> None:
        write(tx, id, "local undo")

    cast.refuse_step("c")

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        saga.undo(told, go.id)
        await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        return await saga.call(Do(id=go.id, step="c"), undo=Undo(id=go.id, step="c"))

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        with pytest.raises(Rejected, match="enough"):
            await handle.result()
        undone = "SELECT name FROM outboxd_journal WHERE kind = 'undo_done' ORDER BY n"
        assert await harness.column("desk", undone) == ["Undo", "Unact", "told", "Undo"]
        assert await log(harness, "worker") == ["do a", "do b", "undo b", "undo a"]
        assert await log(harness, "courier") == ["act x", "unact x"]
        assert await log(harness, "desk") == ["local undo"]
        assert [step[1:] for step in cast.undone] == [
            (True, b'"do b"'),
            (True, b'"act x"'),
            (True, b'"do a"'),
        ]


async def test_a_rejection_that_the_code_catches_unwinds_nothing(
    cast: Cast, tmp_path: Path
) -> None:
    cast.refuse_step("b")

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        try:
            return await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        except Rejected as no:
            return f"instead: {no.reason}, {await saga.call(Act(id=go.id))}"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "instead: enough, act x"
        assert await log(harness, "worker") == ["do a"]
        assert cast.undone == []


async def test_a_saga_that_fails_itself_is_unwound(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        saga.fail("no more")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]


async def test_a_saga_sends_publishes_and_sleeps(cast: Cast, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        before = (str(saga.now()), str(saga.uuid()))
        await saga.send(Do(id=go.id, step="sent"))
        await saga.send(Do(id=go.id, step="later"), delay="2h")
        await saga.sleep("1h")
        seen.append(before)
        return await saga.run(write, go.id, before[1])

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: log(harness, "worker"), "the first is there")
        harness.advance(3599)
        assert (await harness.saga(handle.id)).state == "running"
        harness.advance(1)
        ident = await handle.result()
        assert await log(harness, "worker") == ["do sent"]
        harness.advance(3600)

        async def both() -> bool:
            return await log(harness, "worker") == ["do sent", "do later"]

        await wait_until(both, "the delayed one is there")
        assert ident == seen[0][1]
        assert len({moment for moment, _ in seen}) == 1


async def test_a_call_that_dies_may_fail_at_once(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        return await saga.call(
            Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"), on_dead="fail"
        )

    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        with pytest.raises(Rejected, match="worker/d-1: RuntimeError: step b is broken"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]
        assert await letters(harness, "worker") == [("Do", "closed")]
        with pytest.raises(Refused, match="closed"):
            await harness.replay("worker", 1)


async def test_a_failed_call_that_the_code_catches_is_closed_all_the_same(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            return await saga.call(Do(id=go.id, step="b"), on_dead="fail")
        except CallFailed as error:
            return f"without it: {error.command}"

    cast.break_step("b")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "without it: Do"
        assert await letters(harness, "worker") == [("Do", "closed")]
        cast.mend()
        with pytest.raises(Refused, match="closed"):
            await harness.replay("worker", 1)


async def test_a_saga_is_cancelled_while_it_waits_for_a_call(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        return await saga.call(Act(id=go.id), undo=Unact(id=go.id))

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        await harness.cancel(handle.id, "the customer left")
        await harness.until_saga(handle.id, "compensating")
        gate.open.set()
        with pytest.raises(Cancelled, match="the customer left"):
            await handle.result()
        assert await log(harness, "courier") == ["act x", "unact x"]
        assert await log(harness, "worker") == ["do a", "undo a"]


async def test_a_saga_is_cancelled_while_it_sleeps(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        await saga.sleep("1h")
        return "awake"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        await harness.cancel(handle.id)
        with pytest.raises(Cancelled):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]
        harness.advance(7200)
        with pytest.raises(Refused, match="has ended: cancelled"):
            await harness.cancel(handle.id)


async def test_a_cancellation_may_be_caught(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            await saga.sleep("1h")
        except Cancelled as error:
            return f"early: {error.reason}"
        return "late"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        await harness.cancel(handle.id, "hurry")
        assert await handle.result() == "early: hurry"


async def test_a_saga_on_its_way_back_is_not_cancelled(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        saga.fail("no more")

    gate = cast.gate_effects(undo=True)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        with pytest.raises(Refused, match="already ending as compensated"):
            await harness.cancel(handle.id)
        gate.open.set()
        with pytest.raises(Rejected):
            await handle.result()


async def test_a_second_start_is_answered_with_the_first_result(cast: Cast, tmp_path: Path) -> None:
    runs: list[str] = []

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        runs.append(go.id)
        return await saga.run(write, go.id, f"run {len(runs)}")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        first = await harness.start(Go(id="1"))
        second = await harness.start(Go(id="1"))
        assert await first.result() == await second.result() == "run 1"
        assert await (await harness.start(Go(id="1"))).result() == "run 1"
        assert await log(harness, "desk") == ["run 1"]


async def test_the_same_start_message_starts_nothing_twice(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga(again="after_end")
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.run(write, go.id, "run")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        for _ in range(3):
            handle = await harness.start(Go(id="1"), message_id="m-1")
            assert await handle.result() == "run"
        assert await log(harness, "desk") == ["run"]


async def test_a_saga_may_start_anew_after_its_end(cast: Cast, tmp_path: Path) -> None:
    runs: list[str] = []

    @cast.desk.saga(again="after_end")
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.run(count)

    def count(tx: Tx) -> str:
        runs.append("x")
        return f"run {len(runs)}"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        first = await harness.start(Go(id="1"))
        assert await first.result() == "run 1"
        second = await harness.start(Go(id="1"))
        assert await second.result() == "run 2"
        assert second.id == "desk/trip/1@2"
        assert await first.result() == "run 1"


async def test_a_key_that_looks_like_a_further_round_is_a_saga_of_its_own(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga(again="after_end")
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.run(write, go.id, saga.key)

    async with hosting(*cast.participants, data=tmp_path) as harness:
        ids = []
        for key in ("x", "x@2", "x", "x@2"):
            handle = await harness.start(Go(id=key))
            assert await handle.result() == key
            ids.append(handle.id)
            assert (await harness.runtime.handle(handle.id)).id == handle.id
        assert ids == ["desk/trip/x", "desk/trip/x@2@1", "desk/trip/x@2", "desk/trip/x@2@2"]
        assert await log(harness, "desk") == ["x", "x@2", "x", "x@2"]


async def test_a_caller_who_starts_it_twice_is_refused(cast: Cast, tmp_path: Path) -> None:
    answers = await two_callers(cast, tmp_path, "refuse")
    assert answers == {"A": "1 ran", "B": "no: desk/trip/1 was started before"}


async def test_every_caller_gets_the_first_result(cast: Cast, tmp_path: Path) -> None:
    assert await two_callers(cast, tmp_path, "first") == {"A": "1 ran", "B": "1 ran"}


async def two_callers(cast: Cast, data: Path, again: Literal["first", "refuse"]) -> dict[str, str]:
    """What two sagas are told that start one and the same saga, the second while it runs."""
    callers = cast.callers()

    @cast.desk.saga(again=again)
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Act(id=go.id))
        return f"{go.id} ran"

    gate = cast.gate_effects()
    async with hosting(*cast.participants, callers, data=data) as harness:
        first = await harness.start(Ask(name="A", id="1"))
        await gate.reached.wait()
        second = await harness.start(Ask(name="B", id="1"))
        await wait_until(
            lambda: harness.column(
                "desk", "SELECT accepted FROM outboxd_sender WHERE accepted = 2"
            ),
            "both have asked",
        )
        gate.open.set()
        return {"A": await first.result(), "B": await second.result()}


async def test_an_undo_that_says_no_stops_its_saga(cast: Cast, tmp_path: Path) -> None:
    """What was done must be undone: a refusal is not taken for that."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        saga.fail("no more")

    def refuse(tx: Tx, cmd: Undo) -> None:
        raise Reject("I will not")

    cast.on_undo = refuse
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: undo")
        assert "I will not" in (row.detail or "")
        cast.mend()
        await harness.replay("worker", 1)
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]


async def test_an_undo_that_dies_stops_its_saga_until_it_is_replayed(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        saga.fail("no more")

    def hopeless(tx: Tx, cmd: Undo) -> None:
        if cmd.step == "b":
            raise Unrecoverable("no such row")

    cast.on_undo = hopeless
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: undo")
        assert row.detail == "worker/d-1: Unrecoverable: no such row"
        assert await log(harness, "worker") == ["do a", "do b"]
        cast.mend()
        await harness.replay("worker", 1)
        with pytest.raises(Rejected, match="no more"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "do b", "undo b", "undo a"]


async def test_a_kill_ends_a_saga_as_it_stands(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        await saga.sleep("1h")
        return "awake"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        await harness.request("saga.kill", "desk", handle.id, reason="gone mad")
        with pytest.raises(Cancelled, match="killed: gone mad"):
            await handle.result()
        assert await log(harness, "worker") == ["do a"]
