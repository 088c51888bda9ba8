"""What many waiting sagas and long journals cost; ``--storm 50`` plays it at the size of README."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from outboxd import Command, Participant, Saga
from outboxd.book import rebuilt
from outboxd.message import encode, encode_raw
from outboxd.registry import Registry
from outboxd.steps import Run, Sleep, mark_of, name_of
from outboxd.store.journal import JournalRow
from outboxd.testing import FakeClock
from tests.factories import AT, envelope, saga_row
from tests.promises.cast import Cast, Go, hosting, write

SAGAS = 2_000
STEPS = 10_000
REPLAY_S = 2.0
READY_S = 5.0


class Word(Command[None], to="desk", key="id"):
    """What each of many sagas waits for."""

    id: str


async def long_trip(saga: Saga, go: Go) -> str:
    total = 0
    for number in range(STEPS):
        total += len(await saga.run(write, go.id, f"{number}"))
    await saga.sleep("1h")
    return f"{total}"


async def wide_trip(saga: Saga, go: Go) -> str:
    await saga.all(*[saga.sleep(3600 + number) for number in range(STEPS)])
    await saga.sleep("1h")
    return ""


def row(n: int, kind: str, pos: int, name: str, mark: int, data: bytes | None) -> JournalRow:
    return JournalRow(n, kind, pos, name, mark, AT, data)


def long_journal() -> list[JournalRow]:
    mark = mark_of(Run(write, (), {}))
    return [row(n, "run", n, "write", mark, encode("x")) for n in range(1, STEPS + 1)]


def wide_journal() -> list[JournalRow]:
    """All begun, then all ended, the last first."""
    asked = [Sleep(3600 + number) for number in range(STEPS)]
    steps = [(pos, name_of(sleep), mark_of(sleep)) for pos, sleep in enumerate(asked, 1)]
    begun = [row(pos, "sleep", pos, name, mark, None) for pos, name, mark in steps]
    ended = [
        row(2 * STEPS - pos, "woke", pos, name, mark, b"null")
        for pos, name, mark in reversed(steps)
    ]
    return begun + ended


@pytest.mark.parametrize("shape", ["long", "wide"])
def test_a_journal_of_ten_thousand_steps_replays_in_no_time(shape: str) -> None:
    code, rows = {
        "long": (long_trip, long_journal()),
        "wide": (wide_trip, wide_journal()),
    }[shape]
    desk = Participant("desk")
    desk.saga(code)
    saga = saga_row(
        id=f"desk/{code.__name__}/1", name=code.__name__, key="1", start=start_of(Go(id="1"))
    )
    began = time.process_time()
    instance = rebuilt(Registry([desk]), "desk", saga, rows)
    assert time.process_time() - began < REPLAY_S
    (step,) = instance.open.values()
    assert (step.kind, step.pos) == ("sleep", STEPS + 1)
    instance.drop()


def start_of(go: Go) -> bytes:
    return encode(envelope(go, data=encode_raw(go), type="Go"))


@pytest.mark.anyio
async def test_many_waiting_sagas_are_neither_read_nor_built_at_a_start(
    cast: Cast, tmp_path: Path, storm: int
) -> None:
    built: list[str] = []

    @cast.desk.saga(receives=(Word,))
    async def trip(saga: Saga, go: Go) -> str:
        built.append(go.id)
        return str((await saga.race(saga.receive(Word, timeout="30d"), saga.sleep("20d")))[0])

    count, clock = SAGAS * storm, FakeClock()
    async with hosting(cast.desk, data=tmp_path, clock=clock) as harness:
        for first in range(0, count, 500):
            await harness.runtime.start_all([Go(id=str(n)) for n in range(first, first + 500)])
        stream = harness.stream
    built.clear()
    began = time.process_time()
    async with hosting(cast.desk, data=tmp_path, clock=clock, stream=stream) as harness:
        assert time.process_time() - began < READY_S
        assert harness.runtime.progress().open == count
        assert built == []
        handle = await harness.runtime.handle("desk/trip/7")
        await harness.send(Word(id="7"))
        assert await handle.result() == "0"
        assert built == ["7"]
