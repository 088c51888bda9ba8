"""Messages that sagas wait for: early, in time, late, too many, for one or for several."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from outboxd import Cancelled, Command, Participant, Refused, Rejected, Saga, TimedOut, Tx
from outboxd.message import Event
from outboxd.monitor import Monitor
from outboxd.testing import FakeClock, FaultyStream, Harness, wait_until
from tests.promises.cast import (
    Cast,
    Do,
    Done,
    Go,
    Undo,
    envelope,
    hosting,
    letters,
    log,
    until_step,
    write,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("memory")]


class Approve(Command[None], to="desk", key="id"):
    """A person's word."""

    id: str
    by: str = "ann"


class Watch(Command[str], to="desk", key="id"):
    """Starts another saga of the desk."""

    id: str


class Decide(Command[str], to="boss", key="id"):
    """Starts the saga that approves."""

    id: str


class Opened(Event, source="worker", key="place"):
    """For whoever waits for it."""

    place: str


class Open(Command[None], to="worker", key="place"):
    """Publishes Opened."""

    place: str


def approved(cast: Cast, *, again: Literal["first", "after_end"] = "first") -> None:
    """Done once somebody has approved it."""

    @cast.desk.saga(receives=(Approve,), again=again)
    async def trip(saga: Saga, go: Go) -> str:
        word = await saga.receive(Approve, timeout="3d")
        return await saga.run(write, go.id, f"approved by {word.by}")


async def kinds(harness: Harness, saga_id: str = "desk/trip/1") -> list[str]:
    sql = "SELECT kind FROM outboxd_journal WHERE saga = ? ORDER BY n"
    return await harness.column("desk", sql, saga_id)


async def early(harness: Harness) -> list[tuple[str, str]]:
    """(type, key) of what is kept."""
    sql = "SELECT type, key FROM outboxd_early ORDER BY n"
    return [(row[0], row[1]) for row in await harness.rows("desk", sql)]


async def test_a_command_moves_the_saga_that_waits_for_it(cast: Cast, tmp_path: Path) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Approve")
        await harness.send(Approve(id="2", by="bob"))
        await harness.send(Approve(id="1"))
        assert await handle.result() == "approved by ann"
        assert await kinds(harness) == ["receive", "received", "run", "ended"]
        assert await early(harness) == [("Approve", "2")]


async def test_what_comes_before_the_saga_starts_is_found(cast: Cast, tmp_path: Path) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Approve(id="1", by="early bird"))
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "approved by early bird"
        assert await early(harness) == []


async def test_what_comes_before_the_saga_waits_is_found_in_order(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga(receives=(Approve,))
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep("1h")
        first, second = await saga.all(
            saga.receive(Approve, timeout="1h"), saga.receive(Approve, timeout="1h")
        )
        third = await saga.receive(Approve, timeout="1h")
        return f"{first.by} {second.by} {third.by}"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        await harness.send_all(*(Approve(id="1", by=name) for name in "abc"))
        assert await kinds(harness) == ["sleep", "kept", "kept", "kept"]
        harness.advance(3600)
        assert await handle.result() == "a b c"


async def test_an_event_of_another_participant_is_received(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga(receives=(Done,))
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id, step="b"))
        done = await saga.receive(Done, timeout="1h")
        return done.step

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "b"


async def test_nobody_comes_in_time(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga(receives=(Approve,))
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        try:
            await saga.receive(Approve, timeout="2d")
        except TimedOut as late:
            saga.fail(f"{late}; {late.command}")
        return "approved"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Approve")
        harness.advance(2 * 86400)
        with pytest.raises(Rejected, match="no Approve came within 172800 s; Approve"):
            await handle.result()
        assert await log(harness, "worker") == ["do a", "undo a"]


async def test_a_race_drops_the_wait_and_the_message_is_one_too_many(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga(receives=(Approve,))
    async def trip(saga: Saga, go: Go) -> str:
        match await saga.race(saga.receive(Approve, timeout="3d"), saga.sleep("1d")):
            case (0, word):
                return word.by
            case _:
                await saga.sleep("1h")
                return "nobody"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Approve, sleep 86400s")
        harness.advance(86400)
        await until_step(harness, handle.id, "sleep 3600s")
        await harness.send(Approve(id="1"))
        harness.advance(3600)
        assert await handle.result() == "nobody"
        await harness.send(Approve(id="1"))
        assert (await kinds(harness))[-4:] == ["woke", "ended", "surplus", "late"]
        assert await early(harness) == []


async def test_a_message_for_the_round_before_is_not_the_next_one_s(
    cast: Cast, tmp_path: Path
) -> None:
    approved(cast, again="after_end")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send_all(Approve(id="1", by="ann"), Approve(id="1", by="bob"))
        first = await harness.start(Go(id="1"))
        assert await first.result() == "approved by ann"
        second = await harness.start(Go(id="1"))
        await until_step(harness, "desk/trip/1@2", "Approve")
        await harness.send(Approve(id="1", by="cat"))
        assert await second.result() == "approved by cat"


async def test_an_event_goes_to_all_who_wait_and_a_command_to_one(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.worker.handle
    def open_place(tx: Tx, cmd: Open) -> None:
        tx.publish(Opened(place=cmd.place))

    @cast.desk.saga(receives=(Opened, Approve))
    async def trip(saga: Saga, go: Go) -> str:
        await saga.receive(Opened, timeout="1h", key="museum")
        word = await saga.receive(Approve, timeout="1h", key="guide")
        return word.by

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handles = [await harness.start(Go(id=id)) for id in "12"]
        for handle in handles:
            await until_step(harness, handle.id, "Opened")
        await harness.send(Open(place="museum"))
        for handle in handles:
            await until_step(harness, handle.id, "Approve")
        await harness.send(Approve(id="guide", by="first"))
        await harness.send(Approve(id="guide", by="second"))
        assert {await handle.result() for handle in handles} == {"first", "second"}


async def test_each_saga_of_a_participant_gets_its_own(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga(receives=(Done,))
    async def trip(saga: Saga, go: Go) -> str:
        return (await saga.receive(Done, timeout="1h")).step

    @cast.desk.saga(receives=(Done,))
    async def watch(saga: Saga, cmd: Watch) -> str:
        return (await saga.receive(Done, timeout="1h")).step

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Do(id="1"))
        await wait_until(lambda: early(harness), "the event is kept")
        assert await early(harness) == [("Done", "1"), ("Done", "1")]
        trips, watches = await harness.start(Go(id="1")), await harness.start(Watch(id="1"))
        assert await trips.result() == await watches.result() == "a"


async def test_a_bug_after_a_message_is_retried_with_that_message(
    cast: Cast, tmp_path: Path
) -> None:
    bug = [True]

    @cast.desk.saga(receives=(Approve,))
    async def trip(saga: Saga, go: Go) -> str:
        word = await saga.receive(Approve, timeout="1h")
        if bug:
            raise RuntimeError("a bug")
        return word.by

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.send(Approve(id="1"))
        await harness.until_saga(handle.id, "stuck: bug")
        harness.advance(7200)
        bug.clear()
        await harness.retry(handle.id)
        assert await handle.result() == "ann"


async def test_a_message_reaches_a_saga_that_a_letter_holds(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga(receives=(Approve,))
    async def trip(saga: Saga, go: Go) -> str:
        did, word = await saga.all(saga.call(Do(id=go.id)), saga.receive(Approve, timeout="1h"))
        return f"{did}, {word.by}"

    cast.break_step("a")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: letter")
        await harness.send(Approve(id="1"))
        await until_step(harness, handle.id, "Do")
        cast.mend()
        await harness.replay("worker", 1)
        assert await handle.result() == "do a, ann"


async def test_a_cancelled_saga_waits_for_no_message(cast: Cast, tmp_path: Path) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Approve")
        await harness.cancel(handle.id, "enough")
        with pytest.raises(Cancelled, match="enough"):
            await handle.result()
        await harness.send(Approve(id="1"))
        assert (await kinds(harness))[-2:] == ["ended", "late"]


async def test_what_is_kept_outlives_the_process(cast: Cast, tmp_path: Path) -> None:
    clock = FakeClock()
    approved(cast)
    stream: FaultyStream
    async with hosting(*cast.participants, data=tmp_path, clock=clock) as harness:
        stream = harness.stream
        await harness.send(Approve(id="1", by="ann"))
        waiting = await harness.start(Go(id="2"))
        await until_step(harness, waiting.id, "Approve")
    async with hosting(*cast.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.send(Approve(id="2", by="bob"))
        await harness.until_saga(waiting.id, "completed")
        assert await (await harness.start(Go(id="1"))).result() == "approved by ann"


async def test_an_operator_answers_for_whoever_should_have_sent_it(
    cast: Cast, tmp_path: Path
) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Approve")
        with pytest.raises(Refused, match="by"):
            await harness.request("saga.skip", "desk", handle.id, {"value": {"id": "1", "by": 7}})
        await harness.request("saga.skip", "desk", handle.id, {"value": {"id": "1", "by": "eve"}})
        assert await handle.result() == "approved by eve"


async def test_a_message_that_is_none_becomes_a_dead_letter(cast: Cast, tmp_path: Path) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.put("desk", envelope(Approve(id="1"), "m-1", data={"id": 7}))
        await wait_until(lambda: letters(harness, "desk"), "it is dead")
        assert await early(harness) == []


async def test_whoever_calls_with_it_is_answered_when_it_is_taken(
    cast: Cast, tmp_path: Path
) -> None:
    approved(cast)
    boss = Participant("boss")

    @boss.saga
    async def decide(saga: Saga, cmd: Decide) -> str:
        await saga.call(Approve(id=cmd.id, by="the boss"))
        return "decided"

    async with hosting(*cast.participants, boss, data=tmp_path) as harness:
        decided = await harness.start(Decide(id="1"))
        assert await decided.result() == "decided"
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "approved by the boss"


async def test_what_a_saga_does_not_declare_it_does_not_receive(cast: Cast, tmp_path: Path) -> None:
    wanted = [Approve]

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return (await saga.receive(wanted[0], timeout="1h")).by

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: bug")
        said = "does not say that it receives Approve: write @participant.saga(receives=(Approve,))"
        assert said in (row.detail or "")


async def test_why_says_which_message_is_waited_for(cast: Cast, tmp_path: Path) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Approve")
        with Monitor(tmp_path, harness.clock) as monitor:
            detail = monitor.saga(handle.id)
        assert detail.saga.state == "waiting"
        (said,) = detail.waits_for
        assert said.startswith("for Approve of 1, which has not come; its deadline is in 3d")
        assert "outboxd send Approve @FILE --key 1" in detail.moves
        assert [(step.kind, step.name, step.state) for step in detail.steps] == [
            ("receive", "Approve", "waiting")
        ]
        await harness.send(Approve(id="1"))
        await handle.result()
