"""A store that was restored from a backup: its numbers were given out before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from outboxd import Command, Participant, Saga, Tx
from outboxd.memory_stream import MemoryStream
from outboxd.testing import FakeClock, FaultyStream, Harness, running, wait_until

pytestmark = pytest.mark.anyio


class Go(Command[None], to="desk", key="id"):
    id: str


class Act(Command[None], to="worker", key="id", timeout="1d"):
    """The test hurries: its clock runs far while the machine is slow."""

    id: str


def pair() -> tuple[Participant, Participant]:
    """A desk whose saga calls a worker."""
    desk = Participant("desk")
    worker = Participant("worker", schema="CREATE TABLE done (id TEXT) STRICT;")

    @desk.saga
    async def trip(saga: Saga, go: Go) -> None:
        # Longer than any wait below: time passes by leaps there, and slow machines look often.
        await saga.call(Act(id=go.id), timeout="30d")

    @worker.handle
    def act(tx: Tx, command: Act) -> None:
        tx.execute("INSERT INTO done VALUES (?)", (command.id,))

    return desk, worker


async def go(harness: Harness, key: str) -> None:
    await (await harness.start(Go(id=key))).result()


async def test_receivers_hold_what_a_restored_store_sends_until_it_is_trusted(
    tmp_path: Path,
) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with running(*pair(), data=data, stream=stream, clock=clock) as harness:
        await go(harness, "1")
        await harness.until_idle()
    shutil.copytree(data, backup)
    async with running(*pair(), data=data, stream=stream, clock=clock) as harness:
        await go(harness, "2")
        await harness.until_idle()
    for name in ("desk.db", "worker.db"):  # a restore takes a node's participants together
        shutil.copy(backup / name, data / name)
    async with running(*pair(), data=data, stream=stream, clock=clock) as harness:
        handle = await harness.start(Go(id="3"))
        worker = harness.runtime.hosted["worker"]
        await wait_until(lambda: worker.problems)
        assert "outboxd trust desk" in worker.problems[0]
        assert await harness.column("worker", "SELECT id FROM done") == ["1"]
        assert "is trusted" in await harness.request("sender.trust", "worker", "desk")
        await harness.hurry(
            lambda: harness.column("worker", "SELECT 1 FROM done WHERE id = '3'"), 5.0
        )
        desk = harness.runtime.hosted["desk"]
        await wait_until(lambda: desk.problems)
        assert "is trusted" in await harness.request("sender.trust", "desk", "worker")
        await handle.result()
        assert worker.problems == desk.problems == []
        assert await harness.column("worker", "SELECT id FROM done") == ["1", "3"]
