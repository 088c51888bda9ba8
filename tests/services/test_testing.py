"""The public test kit: a clock that is moved, a broker that misbehaves on demand, a condition."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from outboxd import Refused, Saga
from outboxd.errors import NotFound
from outboxd.memory_stream import MemoryStream
from outboxd.stream import BrokerError, Marker
from outboxd.testing import FakeClock, Faults, FaultyStream, running, wait_until
from tests.promises.cast import Cast, Do, Go

pytestmark = pytest.mark.anyio

MARK = Marker("store", 1, 1)
STREAM = "outboxd:{x}:in"


async def broker(faults: Faults = Faults()) -> FaultyStream:  # noqa: B008 - it is frozen
    """A broker with one group."""
    stream = FaultyStream(MemoryStream(), random.Random(7), faults)
    await stream.ensure(STREAM, "g")
    return stream


async def publish(stream: FaultyStream, *bodies: bytes) -> None:
    await stream.publish("me", [(STREAM, body) for body in bodies], MARK, [])


async def read(stream: FaultyStream, own: bytes | None = None) -> list[bytes | None]:
    block_s = None if own else 0.01
    found = await stream.read(STREAM, "g", "c", count=100, block_s=block_s, own=own)
    return [entry.body for entry in found]


async def test_a_condition_is_waited_for_and_returned() -> None:
    found: list[int] = []

    async def grows() -> list[int]:
        found.append(1)
        return found if len(found) == 3 else []

    assert await wait_until(grows) == [1, 1, 1]
    assert await wait_until(lambda: "at once") == "at once"


async def test_a_condition_that_never_comes_is_named() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.02 s: pigs fly"):
        await wait_until(lambda: False, "pigs fly", within_s=0.02)
    with pytest.raises(AssertionError, match=r"lambda: False"):
        await wait_until(lambda: False, within_s=0.02)


def test_a_frozen_clock_moves_only_when_told() -> None:
    clock = FakeClock(1000.0, rate=0)
    wall, mono = 1000.0, clock.monotonic()
    assert (clock.now(), clock.monotonic()) == (wall, mono)
    clock.advance(5)
    assert (clock.now(), clock.monotonic()) == (wall + 5, mono + 5)
    clock.jump(-100)
    assert (clock.now(), clock.monotonic()) == (wall - 95, mono + 5)


def test_a_clock_runs_by_itself_unless_told_otherwise() -> None:
    clock = FakeClock(5000.0)
    before = clock.monotonic()
    while clock.monotonic() == before:
        pass
    assert 5000.0 <= clock.now() < 5010.0


async def test_a_calm_stream_changes_nothing() -> None:
    stream = await broker()
    await publish(stream, b"a", b"b", b"c")
    assert await read(stream) == [b"a", b"b", b"c"]
    assert stream.seen == [(STREAM, b"a"), (STREAM, b"b"), (STREAM, b"c")]


@pytest.mark.parametrize(
    ("faults", "arrive"),
    [
        (Faults(lose=1.0), []),
        (Faults(duplicate=1.0), [b"a", b"a", b"b", b"b", b"c", b"c"]),
        (Faults(reorder=1.0), [b"b", b"c", b"a"]),
    ],
)
async def test_entries_are_lost_repeated_and_mixed_up(faults: Faults, arrive: list[bytes]) -> None:
    stream = await broker(faults)
    await publish(stream, b"a", b"b", b"c")
    assert await read(stream) == arrive


async def test_refused_entries_keep_their_places_in_a_batch() -> None:
    inner = MemoryStream()
    inner.refused["bad"] = "OOM"
    stream = FaultyStream(inner, faults=Faults(reorder=1.0, duplicate=1.0))
    done = await stream.publish("me", [("good", b"a"), ("bad", b"b"), ("good", b"c")], MARK, [])
    assert done.failed == {1: "OOM"}


async def test_a_call_fails_before_it_was_carried_out_or_after() -> None:
    stream = await broker()
    stream.fail("publish_before")
    with pytest.raises(BrokerError, match="injected: publish_before"):
        await publish(stream, b"never")
    stream.fail("publish_after")
    with pytest.raises(BrokerError, match="injected: publish_after"):
        await publish(stream, b"there")
    stream.fail("read_after")
    with pytest.raises(BrokerError, match="injected: read_after"):
        await read(stream)
    assert await read(stream) == []
    assert await read(stream, own=b"0") == [b"there"]
    stream.fail("ack_before", 2)
    for _ in range(2):
        with pytest.raises(BrokerError, match="injected: ack_before"):
            await stream.ack(STREAM, "g", [], "x", {})
    stream.fail("ack_after")
    with pytest.raises(BrokerError, match="injected: ack_after"):
        await stream.ack(STREAM, "g", [], "x", {"me:in": "1:1"})
    assert await stream.accepted("x") == {"me:in": (1, 1, False)}


async def test_a_stream_is_held_back_from_an_entry_on() -> None:
    stream = await broker()
    stream.hold(STREAM, b"stop")
    await publish(stream, b"a", b"stop", b"c")
    assert await read(stream) == [b"a"]
    await publish(stream, b"d")
    assert await read(stream) == []
    assert await read(stream, own=b"0") == []
    stream.release(STREAM)
    assert await read(stream) == [b"stop", b"c"]
    assert await read(stream) == [b"d"]


async def test_one_publish_is_swallowed() -> None:
    stream = await broker()
    stream.swallow(STREAM)
    await publish(stream, b"a", b"b")
    await publish(stream, b"c")
    assert await read(stream) == [b"c"]


async def test_everything_is_forgotten() -> None:
    stream = await broker()
    await publish(stream, b"a")
    await stream.forget()
    assert await stream.marker("me") is None
    assert not (await stream.position(STREAM, "g")).group_exists


async def test_a_broker_that_cannot_forget_says_so() -> None:
    with pytest.raises(NotFound, match="no way to forget"):
        await FaultyStream(FaultyStream(MemoryStream())).forget()


async def test_a_harness_starts_sends_asks_and_looks(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep("1h")
        return await saga.call(Do(id=go.id))

    async with running(*cast.participants) as harness:
        data = harness.data
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "running")
        harness.advance(3600)
        assert await handle.result() == "do a"
        assert await harness.send(Do(id="2"), "m-1") == "m-1"
        await harness.until_idle()
        assert await harness.column("worker", "SELECT id FROM log ORDER BY n") == ["1", "2"]
        assert (await harness.saga(handle.id)).state == "completed"
        with pytest.raises(NotFound, match="there is no saga desk/trip/2"):
            await harness.saga("desk/trip/2")
        with pytest.raises(Refused, match="has no dead letter d-1"):
            await harness.replay("worker", 1)
    assert not data.exists()


async def test_a_second_run_goes_on_with_the_directory(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep("1h")
        return "awake"

    async with running(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "running")
    harness.clock.advance(3600)
    async with running(
        *cast.participants, data=tmp_path, clock=harness.clock, stream=harness.stream
    ) as harness:
        await harness.until_saga(handle.id, "completed")
