"""The relay of a participant that is at work already while it opens: no row is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from outboxd import Participant
from outboxd.batch import Outcome
from outboxd.committer import Committer
from outboxd.delivery import Delivery
from outboxd.memory_stream import MemoryStream
from outboxd.message import decode_envelope, in_stream
from outboxd.registry import Registry
from outboxd.relay import Relay
from outboxd.store import meta, outbox, schema
from outboxd.store.connection import Connection, Database
from outboxd.store.outbox import OutRow
from outboxd.testing import FakeClock
from tests.promises.cast import Do, envelope

pytestmark = pytest.mark.anyio

T = TypeVar("T")
WORKER = in_stream("worker")


class Busy(Database):
    """Another commit comes right after each of the first ``more`` reads, as from a scheduler."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.more = 0
        self.heard: Callable[[Outcome], None] = lambda _: None

    async def read(self, fn: Callable[[Connection], T]) -> T:
        found = await super().read(fn)
        if self.more:
            self.more -= 1
            await self.add()
        return found

    async def add(self) -> None:
        """One more row for the worker; who listens is told after the commit."""

        def work(connection: Connection) -> list[OutRow]:
            last = outbox.last_numbers(connection)
            number = last.get(WORKER, 0) + 1
            body = envelope(Do(id="1"), f"m-{number}")
            return outbox.add(connection, last, [(WORKER, f"m-{number}", body)], 0.0)

        self.heard(Outcome(rows=await self.write(work)))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Busy]:
    database = Busy(tmp_path / "desk.db")
    await database.open()
    async with anyio.create_task_group() as pump:
        pump.start_soon(database.run)
        await database.write(schema.migrate_own)
        yield database
        await database.close()
        pump.cancel_scope.cancel()


@pytest.mark.parametrize("before", ["nothing", "settled", "waiting"])
@pytest.mark.parametrize("more", [1, 2])
async def test_what_is_committed_while_it_opens_is_published(
    database: Busy, before: str, more: int
) -> None:
    clock = FakeClock()
    stream = MemoryStream(clock)
    delivery = Delivery("desk", Registry([Participant("desk")]), clock, lambda: 0.0)
    relay = Relay(delivery, Committer("desk", database), stream, clock)
    identity = await database.write(lambda cx: meta.identity(cx, clock.now()))
    if before != "nothing":
        await database.add()
    if before == "settled":
        await database.write(lambda cx: outbox.settle(cx, [(WORKER, 1)]))
    database.heard, database.more = relay.offer, more
    await relay.open(identity)
    while database.more:
        await database.read(lambda cx: None)
    last = more + (before != "nothing")
    assert relay.progress[WORKER].last == last
    while await relay.work():
        pass
    published = [decode_envelope(entry.body or b"").id for entry in stream.entries(WORKER)]
    first = 2 if before == "settled" else 1
    assert published == [f"m-{n}" for n in range(first, last + 1)]
    assert not relay.is_settled
