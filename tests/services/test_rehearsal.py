"""A rehearsal: which sagas under way would new code break? Nothing is done, and nothing written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from outboxd import Command, Participant, Saga, Tx
from outboxd.errors import ConfigError
from outboxd.registry import Registry
from outboxd.rehearsal import Broken, Rehearsal, rehearse
from outboxd.testing import running
from tests.promises.cast import Act, Cast, Do, Go, Unact, Undo, hosting, until_step, write

pytestmark = pytest.mark.anyio

SLEEP = "sleep 3600s"


class Seated(Command[str], to="desk", key="id"):
    """The desk's command, as a later version has it."""

    id: str
    seats: int


Seated.__name__ = "Go"


def note(tx: Tx, id: str) -> str:
    """A function of the saga's own participant."""
    return write(tx, id, "noted")


def first_code(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.run(note, go.id)
        said = await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        await saga.sleep("1h")
        return said


async def under_way(data: Path, *ids: str) -> None:
    """Sagas of the first code, asleep."""
    cast = Cast()
    first_code(cast)
    async with hosting(*cast.participants, data=data) as harness:
        for handle in [await harness.start(Go(id=id)) for id in ids]:
            await until_step(harness, handle.id, SLEEP)


def rehearsed(data: Path, define: Callable[[Cast], None]) -> Rehearsal:
    cast = Cast()
    define(cast)
    return rehearse(data, Registry(cast.participants))


def contents(data: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in data.glob("*.db")}


async def test_code_that_fits_breaks_nothing_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await under_way(tmp_path, "1", "2")
    before = contents(tmp_path)
    calls: list[str] = []

    def define(cast: Cast) -> None:
        def note(tx: Tx, id: str) -> str:
            calls.append(id)
            return id

        @cast.desk.saga
        async def trip(saga: Saga, go: Go) -> str:
            await saga.run(note, go.id)
            said = await saga.call(Do(id=go.id), undo=Undo(id=go.id))
            await saga.sleep("1h")
            return said + await saga.run(note, go.id)

    assert rehearsed(tmp_path, define) == Rehearsal(sagas=2, broken=(), absent={})
    assert calls == []
    assert contents(tmp_path) == before


def another_step(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.run(note, go.id)
        return await saga.call(Act(id=go.id), undo=Unact(id=go.id))


def other_content(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.run(note, go.id)
        return await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id))


def an_earlier_end(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.run(note, go.id)


def another_wait(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.run(note, go.id)
        said = await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        await saga.sleep("2h")
        return said


def another_result(cast: Cast) -> None:
    def note(tx: Tx, id: str) -> int:
        return 7

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return f"{await saga.run(note, go.id)}"


def another_name(cast: Cast) -> None:
    @cast.desk.saga
    async def journey(saga: Saga, go: Go) -> str:
        return go.id


def a_bug(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        said = await saga.run(note, go.id)
        return {"done": said}[said]


@pytest.mark.parametrize(
    ("define", "step", "journal", "code"),
    [
        (another_step, 2, "call Do", "call Act (step 2)"),
        (other_content, 2, "call Do with other content", 'call Do {"id":"1","step":"b"}'),
        (an_earlier_end, 2, "call Do", "the end"),
        (another_wait, 3, "sleep 3600s", "sleep 7200s (step 3)"),
        (
            another_result,
            1,
            'run note with the result "noted"',
            "int: Expected `int`, got `str`",
        ),
        (another_name, 0, "saga trip", "no such saga"),
        (a_bug, 3, "sleep 3600s", "raises KeyError: 'noted'"),
    ],
)
async def test_code_that_does_not_fit_is_told_with_both_sides(
    define: Callable[[Cast], None], step: int, journal: str, code: str, tmp_path: Path
) -> None:
    await under_way(tmp_path, "1")
    broken = Broken(saga="desk/trip/1", state="running", step=step, journal=journal, code=code)
    assert rehearsed(tmp_path, define).broken == (broken,)


async def test_what_the_rehearsal_says_is_what_happens(tmp_path: Path) -> None:
    """A recorded result that the code cannot read parks the saga as well; it is no bad message."""
    await under_way(tmp_path, "1")
    cast = Cast()
    another_result(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.advance(3700)
        row = await harness.until_saga("desk/trip/1", "stuck: code changed")
        assert row.detail == (
            'step 1: the journal has run note with the result "noted", '
            "the code asks for int: Expected `int`, got `str`"
        )
    [broken] = rehearsed(tmp_path, another_result).broken
    assert (broken.state, broken.step) == ("stuck", 1)
    assert rehearsed(tmp_path, first_code).broken == ()


async def test_a_start_message_that_is_no_longer_understood(tmp_path: Path) -> None:
    await under_way(tmp_path, "1")

    desk = Participant("desk")

    @desk.saga
    async def trip(saga: Saga, go: Seated) -> str:
        return go.id

    report = rehearse(tmp_path, Registry([desk]))
    [broken] = report.broken
    assert broken.journal == 'start Go {"id":"1"}'
    assert broken.code == "Go: Object missing required field `seats`"


async def test_a_saga_on_its_way_back_is_rehearsed_too(tmp_path: Path) -> None:
    cast = Cast()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        saga.fail("no more")

    cast.on_undo = cast.later
    async with running(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "compensating")

    def same(cast: Cast) -> None:
        @cast.desk.saga
        async def trip(saga: Saga, go: Go) -> str:
            await saga.call(Do(id=go.id), undo=Undo(id=go.id))
            saga.fail("no more")

    assert rehearsed(tmp_path, same).broken == ()
    assert len(rehearsed(tmp_path, another_step).broken) == 1


async def test_it_looks_at_what_a_daemon_is_doing(tmp_path: Path) -> None:
    cast = Cast()
    first_code(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await until_step(harness, (await harness.start(Go(id="1"))).id, SLEEP)
        assert len(rehearsed(tmp_path, another_step).broken) == 1
        await until_step(harness, (await harness.start(Go(id="2"))).id, SLEEP)
        assert len(rehearsed(tmp_path, another_step).broken) == 2
        harness.advance(3700)
        await harness.until_idle()
        assert rehearsed(tmp_path, another_step) == Rehearsal(sagas=0, broken=(), absent={})


async def test_sagas_without_code_are_counted(tmp_path: Path) -> None:
    await under_way(tmp_path, "1", "2")
    report = rehearse(tmp_path, Registry([Cast().worker]))
    assert report == Rehearsal(sagas=0, broken=(), absent={"desk": 2})


def test_where_outboxd_never_ran_there_is_nothing_to_rehearse(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no outboxd data"):
        rehearse(tmp_path, Registry([]))
