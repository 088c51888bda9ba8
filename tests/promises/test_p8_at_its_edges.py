"""P7, P8: answers that come twice or too late, callees that are away, nodes whose clocks differ."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest

from outboxd import Rejected, Saga, TimedOut
from outboxd.message import decode_envelope, encode, in_stream
from outboxd.monitor import Monitor, audit
from outboxd.testing import FakeClock, Faults, FaultyStream, Harness, running, wait_until
from tests.promises import cast as stage
from tests.promises.cast import (
    LIMIT_S,
    PATIENT_S,
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

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("on_each_broker")]

WORKER, DESK = in_stream("worker"), in_stream("desk")
OK = b'"outcome":"ok"'


def one_call(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id), undo=Undo(id=go.id))


async def journal(harness: Harness, saga_id: str) -> list[str]:
    sql = "SELECT kind FROM outboxd_journal WHERE saga = ? ORDER BY n"
    return await harness.column("desk", sql, saga_id)


async def test_after_a_caught_timeout_another_provider_is_charged_and_only_that_one_stands(
    cast: Cast, tmp_path: Path
) -> None:
    """The slow one carried its step out after all: that is undone before the saga ends."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            return await saga.call(Act(id=go.id, step="slow"), undo=Unact(id=go.id, step="slow"))
        except TimedOut:
            return await saga.call(Do(id=go.id, step="other"), undo=Undo(id=go.id, step="other"))

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        harness.advance(61)
        await until_step(harness, handle.id, "closing")
        assert await log(harness, "worker") == ["do other"]
        gate.open.set()
        assert await handle.result() == "do other"
        assert await log(harness, "courier") == ["act slow", "unact slow"]
        assert await log(harness, "worker") == ["do other"]


async def test_an_answer_that_comes_twice_is_heard_once(cast: Cast, tmp_path: Path) -> None:
    """Once more as it was, and once more from somebody who does not number what they send."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        first = await saga.call(Do(id=go.id, step="a"))
        return f"{first}, {await saga.call(Do(id=go.id, step='b'))}"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "do a, do b"
        [first] = [body for to, body in harness.stream.seen if to == DESK and b"#1:ok" in body]
        await harness.put("desk", first)
        envelope = msgspec.structs.replace(decode_envelope(first), epoch=0, seq=0)
        await harness.put("desk", encode(envelope))
        await wait_until(lambda: is_late(harness, handle.id))
        await harness.until_idle()
        assert (await journal(harness, handle.id)).count("ok") == 2
        assert (await journal(harness, handle.id))[-1] == "late"
        assert await handle.result() == "do a, do b"


async def is_late(harness: Harness, saga_id: str) -> bool:
    return "late" in await journal(harness, saga_id)


async def test_an_answer_after_its_deadline_changes_nothing_but_is_told(
    cast: Cast, tmp_path: Path
) -> None:
    one_call(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(DESK, OK)
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: log(harness, "worker"))
        harness.advance(61)
        await harness.until_saga(handle.id, "compensating")
        harness.stream.release(DESK)
        with pytest.raises(Rejected, match="Do was not answered within 60 s"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]
        assert await journal(harness, handle.id) == [
            "call",
            "timed_out",
            "undo_sent",
            "late",
            "undo_done",
            "ended",
        ]


async def test_a_command_past_its_deadline_is_undone_if_it_is_carried_out_at_all(
    cast: Cast, tmp_path: Path
) -> None:
    """It comes an hour late, as whatever its lane was held up by lets it through."""
    one_call(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(WORKER)
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")
        harness.advance(3600)
        await wait_until(lambda: len(sent_to(harness, "worker")) == 2, "the undo is published")
        assert (await harness.saga(handle.id)).state == "compensating"
        harness.stream.release(WORKER)
        with pytest.raises(Rejected):
            await handle.result()
        assert await log(harness, "worker") in (["do a", "undo a"], [])


async def test_steps_and_undos_that_overtake_each_other_leave_nothing_standing(
    cast: Cast, tmp_path: Path
) -> None:
    """Whatever is published is doubled and changes places with its neighbour."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        saga.fail("no more")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.faults = Faults(duplicate=0.5, reorder=0.5, lose=0.1)
        handles = [await harness.start(Go(id=str(n))) for n in range(20)]
        await harness.hurry(partial(have_ended, harness, 20), 1.0)
        for n, handle in enumerate(handles):
            with pytest.raises(Rejected):
                await handle.result()
            did = await log(harness, "worker", str(n))
            assert did in (["do a", "undo a"], ["undo a"], []), did
            did = await log(harness, "courier", str(n))
            assert did in (["act x", "unact x"], ["unact x"], []), did
        harness.stream.faults = Faults()


async def have_ended(harness: Harness, count: int) -> bool:
    sql = "SELECT count(*) FROM outboxd_saga WHERE ended_at IS NOT NULL"
    return await harness.column("desk", sql) == [count]


async def test_a_callee_that_is_away_for_a_day_is_told_and_taken_back_when_it_comes(
    cast: Cast, tmp_path: Path
) -> None:
    one_call(cast)
    clock = FakeClock()
    stream = stage.new_stream(clock)
    async with hosting(cast.desk, data=tmp_path, clock=clock, stream=stream) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")
        harness.advance(61)
        await harness.until_saga(handle.id, "compensating")
        harness.advance(PATIENT_S)
        row = await harness.until_saga(handle.id, "stuck: undo")
        assert row.detail == "Undo was not answered for a day"
        with Monitor(tmp_path) as monitor:
            why = monitor.why(handle.id)
        assert f"outboxd saga skip {handle.id}" in why.moves
        assert f"outboxd saga resolve {handle.id} compensated" in why.moves
    async with hosting(*cast.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        row = await harness.until_saga(handle.id, "compensated")
        assert row.reason == "Do was not answered within 60 s"
        assert await log(harness, "worker") in (["do a", "undo a"], [])


@pytest.mark.parametrize("skew_s", [60.0, -60.0])
async def test_a_minute_between_the_clocks_of_two_nodes_times_nobody_out(
    skew_s: float, cast: Cast, tmp_path: Path
) -> None:
    """Each with its own directory and clock, over one broker; a deadline is half the skew."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        first = await saga.call(Do(id=go.id), undo=Undo(id=go.id), timeout="30s")
        return f"{first}, {await saga.call(Act(id=go.id), undo=Unact(id=go.id), timeout='30s')}"

    here, there = FakeClock(), FakeClock(FakeClock().now() + skew_s)
    stream = stage.new_stream(here)
    with anyio.fail_after(LIMIT_S):
        async with (
            running(cast.desk, data=tmp_path / "a", clock=here, stream=stream) as desk,
            running(
                cast.worker,
                cast.courier,
                data=tmp_path / "b",
                clock=there,
                stream=FaultyStream(stream.broker),
            ) as workers,
        ):
            handles = [await desk.start(Go(id=str(n))) for n in range(20)]
            for handle in handles:
                assert await handle.result() == "do a, act x"
            assert len(await log(workers, "worker")) == 20
            # And one that has to wait is timed out by the clock of the node that waits.
            cast.on_do = cast.later
            slow = await desk.start(Go(id="slow"))
            await wait_until(lambda: workers.column("worker", "SELECT 1 FROM outboxd_inbox"))
            desk.advance(31)
            with pytest.raises(Rejected, match="was not answered within 30 s"):
                await slow.result()
            assert await log(workers, "worker", "slow") == []
            await desk.until_idle()
    assert audit(tmp_path / "a") == []
    assert audit(tmp_path / "b") == []
