"""What an application sends without starting a saga: a word for one that waits, or an event."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import Command, Event, NotFound, Refused, Saga
from tests.promises.cast import Cast, Done, Go, hosting, letters, log, until_step, write
from tests.services.test_starts import crash

pytestmark = pytest.mark.anyio


class Approve(Command[None], to="desk", key="id"):
    """A person's word."""

    id: str
    by: str = "ann"


class Elsewhere(Command[None], to="moon", key="id"):
    """Of somebody who is not here."""

    id: str


class Eclipse(Event, source="moon", key="id"):
    """Of the same."""

    id: str


def approved(cast: Cast) -> None:
    """Done once somebody has approved it, and the worker has done its part."""

    @cast.desk.saga(receives=(Approve, Done))
    async def trip(saga: Saga, go: Go) -> str:
        word = await saga.receive(Approve, timeout="3d")
        await saga.run(write, go.id, f"approved by {word.by}")
        return (await saga.receive(Done, timeout="3d")).step


async def test_a_saga_gets_what_it_waits_for_in_one_call_each(cast: Cast, tmp_path: Path) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Approve")
        assert await harness.runtime.send(Approve(id="1"), message_id="m-1") == "m-1"
        await until_step(harness, handle.id, "Done")
        assert await harness.runtime.send(Done(id="1", step="b"), message_id="m-2") == "m-2"
        assert await handle.result() == "b"
        assert await log(harness, "desk") == ["approved by ann"]


async def test_what_is_sent_before_the_saga_waits_is_kept_for_it(
    cast: Cast, tmp_path: Path
) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        ids = {
            await harness.runtime.send(message)
            for message in (Done(id="1", step="b"), Approve(id="1", by="early bird"))
        }
        assert len(ids) == 2
        await harness.until_idle()
        assert await (await harness.start(Go(id="1"))).result() == "b"
        assert await log(harness, "desk") == ["approved by early bird"]


@pytest.mark.parametrize("again", [Done(id="1", step="b"), Approve(id="1")])
async def test_the_same_id_is_no_second_message(
    cast: Cast, tmp_path: Path, again: Done | Approve
) -> None:
    approved(cast)
    sql = "SELECT type FROM outboxd_early WHERE type = ?"
    async with hosting(*cast.participants, data=tmp_path) as harness:
        for _ in range(3):
            await harness.runtime.send(again, message_id="m")
        await harness.until_idle()
        assert await harness.column("desk", sql, type(again).__name__) == [type(again).__name__]


async def test_an_id_that_was_used_for_something_else_is_refused(
    cast: Cast, tmp_path: Path
) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.runtime.send(Approve(id="1"), message_id="m")
        await harness.runtime.send(Done(id="1", step="a"), message_id="m")
        for other in (Approve(id="1", by="bob"), Done(id="1", step="b")):
            with pytest.raises(Refused, match="sent m before, with other content"):
                await harness.runtime.send(other, message_id="m")
        assert await letters(harness, "desk") == [("Approve", "dead")]


async def test_what_nobody_here_takes_is_said_with_a_hint(cast: Cast, tmp_path: Path) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        for message in (Elsewhere(id="1"), Eclipse(id="1")):
            with pytest.raises(NotFound, match="belongs to moon") as error:
                await harness.runtime.send(message)
            assert "host moon in this process" in (error.value.hint or "")


async def test_what_is_sent_after_a_crash_is_held_before_it_runs(
    cast: Cast, tmp_path: Path
) -> None:
    approved(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.runtime.send(Approve(id="1"))
        await until_step(harness, handle.id, "Done")
    crash(tmp_path)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.runtime.send(Approve(id="1", by="bob"))
        await harness.runtime.send(Done(id="1", step="late"))
        assert (await harness.until_saga(handle.id, "completed")).result == b'"late"'
