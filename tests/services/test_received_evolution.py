"""What sagas receive over two releases: told by the first, in whatever place it waits, it is read
by the second under its new name and in its new form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outboxd import Command, Event, Participant, Saga, Tx
from outboxd.memory_stream import MemoryStream
from outboxd.monitor import Monitor
from outboxd.testing import FakeClock, FaultyStream, Harness, wait_until
from tests.promises.cast import LOG, hosting, until_step, write

pytestmark = pytest.mark.anyio

TRIP = "desk/trip/7"


class Go(Command[str], to="desk", key="id"):
    """Of both releases."""

    id: str


class Say(Command[None], to="worker", key="id"):
    """Of both releases: the worker publishes."""

    id: str
    euros: int


class Paid(Event, source="worker", key="id"):
    """As the first release has it."""

    id: str
    euros: int


class Word(Command[None], to="desk", key="id"):
    """As the first release has it."""

    id: str
    euros: int


def to_cents(data: dict[str, Any], version: int) -> dict[str, Any]:
    assert version == 1
    data["cents"] = data.pop("euros") * 100
    return data


class Settled(Event, source="worker", key="id", version=2, aliases=("Paid",), upcast=to_cents):
    """As the second release has it: renamed, of another unit, with one more field."""

    id: str
    cents: int
    note: str = "-"


class Ruling(
    Command[None],
    to="desk",
    key="id",
    version=2,
    aliases=("Word", "Renamed"),
    upcast=to_cents,
):
    """As the second release has it."""

    id: str
    cents: int
    note: str = "-"


class Renamed(Command[None], to="desk", key="id", version=2, aliases=("Word",)):
    """A mistake of a release in between: a new field and no upcast."""

    id: str
    pounds: int


@pytest.fixture(params=["kept", "forgotten"], autouse=True)
def memory(request: pytest.FixtureRequest) -> None:
    """Everything here also holds for coroutines that are rebuilt at each move."""
    if request.param == "forgotten":
        request.getfixturevalue("forgetful")


def first(*, is_broken: bool = False) -> list[Participant]:
    desk, worker = Participant("desk", schema=LOG), Participant("worker")

    @desk.saga(receives=(Paid, Word))
    async def trip(saga: Saga, go: Go) -> str:
        paid = await saga.receive(Paid, timeout="3d")
        if is_broken:
            raise RuntimeError("the first release cannot")
        word = await saga.receive(Word, timeout="3d")
        return await saga.run(write, go.id, f"{paid.euros} {word.euros}")

    @worker.handle
    def say(tx: Tx, cmd: Say) -> None:
        tx.publish(Paid(id=cmd.id, euros=cmd.euros))

    return [desk, worker]


def second() -> list[Participant]:
    desk, worker = Participant("desk", schema=LOG), Participant("worker")

    @desk.saga(receives=(Settled, Ruling))
    async def trip(saga: Saga, go: Go) -> str:
        paid = await saga.receive(Settled, timeout="3d")
        word = await saga.receive(Ruling, timeout="3d")
        return await saga.run(write, go.id, f"{paid.cents}{paid.note} {word.cents}{word.note}")

    @worker.handle
    def say(tx: Tx, cmd: Say) -> None:
        tx.publish(Settled(id=cmd.id, cents=cmd.euros, note="today"))

    return [desk, worker]


class Store:
    """One data directory, one release after another."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._clock = FakeClock()
        self._stream = FaultyStream(MemoryStream(self._clock))

    def hosting(self, *participants: Participant) -> Any:
        return hosting(
            *participants, data=self._data, clock=self._clock, stream=self._stream, drain_s=0.1
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


async def is_kept(harness: Harness, name: str) -> None:
    async def look() -> bool:
        sql = "SELECT 1 FROM outboxd_early WHERE type = ?"
        return bool(await harness.rows("desk", sql, name))

    await wait_until(look, f"{name} is kept")


async def end_of(harness: Harness) -> str:
    row = await harness.until_saga(TRIP, "completed")
    return (row.result or b"").decode()


async def test_what_was_published_and_not_yet_read_is_received(store: Store) -> None:
    async with store.hosting(*first()) as harness:
        await harness.start(Go(id="7"))
        await until_step(harness, TRIP, "Paid")
    async with store.hosting(first()[1]) as harness:
        await harness.send(Say(id="7", euros=3))
        await wait_until(lambda: harness.rows("worker", "SELECT 1 FROM outboxd_outbox"))
    async with store.hosting(*second()) as harness:
        await until_step(harness, TRIP, "Ruling")
        await harness.send(Ruling(id="7", cents=5))
        assert await end_of(harness) == '"300- 5-"'


async def test_what_was_kept_for_it_is_received(store: Store) -> None:
    async with store.hosting(*first()) as harness:
        await harness.send(Word(id="7", euros=4))
        await harness.send(Say(id="7", euros=3))
        await is_kept(harness, "Word")
        await is_kept(harness, "Paid")
    async with store.hosting(*second()) as harness:
        await harness.start(Go(id="7"))
        assert await end_of(harness) == '"300- 400-"'


async def test_what_it_had_received_is_read_again_from_its_journal(
    store: Store, tmp_path: Path
) -> None:
    async with store.hosting(*first()) as harness:
        await harness.start(Go(id="7"))
        await harness.send(Say(id="7", euros=3))
        await until_step(harness, TRIP, "Word")
        await harness.send(Word(id="8", euros=9))
    async with store.hosting(*second()) as harness:
        await harness.send(Say(id="8", euros=70))
        await harness.start(Go(id="8"))
        assert (await harness.until_saga("desk/trip/8", "completed")).result == b'"70today 900-"'
        await harness.send(Ruling(id="7", cents=5, note="!"))
        assert await end_of(harness) == '"300- 5!"'
    with Monitor(tmp_path) as monitor:
        assert monitor.saga(TRIP).saga.state == "completed"


async def test_what_was_held_by_a_bug_of_the_first_release_is_received(store: Store) -> None:
    async with store.hosting(*first(is_broken=True)) as harness:
        await harness.start(Go(id="7"))
        await harness.send(Say(id="7", euros=3))
        await harness.until_saga(TRIP, "stuck: bug")
        await harness.send(Word(id="7", euros=4))
        await is_kept(harness, "Word")
    async with store.hosting(*second()) as harness:
        await harness.retry(TRIP)
        assert await end_of(harness) == '"300- 400-"'


async def test_what_of_it_cannot_be_read_any_more_is_said_with_both_sides(store: Store) -> None:
    desk = Participant("desk", schema=LOG)

    @desk.saga(receives=(Settled, Renamed))
    async def trip(saga: Saga, go: Go) -> str:
        await saga.receive(Settled, timeout="3d")
        word = await saga.receive(Renamed, timeout="3d")
        return str(word.pounds)

    async with store.hosting(*first()) as harness:
        await harness.send(Word(id="7", euros=4))
        await harness.start(Go(id="7"))
        await until_step(harness, TRIP, "Paid")
    async with store.hosting(desk, second()[1]) as harness:
        await harness.send(Say(id="7", euros=1))
        row = await harness.until_saga(TRIP, "stuck: code changed")
        assert '{"id":"7","euros":4}' in (row.detail or "")
        assert "pounds" in (row.detail or "")
    async with store.hosting(*second()) as harness:
        await harness.retry(TRIP)
        assert await end_of(harness) == '"1today 400-"'
