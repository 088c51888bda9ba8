"""P2: what is committed is handled by every addressee, or visible. (The kills: test_kill_*.py.)"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from outboxd import Participant, Reject, Retry, Saga, Tx
from outboxd.memory_stream import MemoryStream
from outboxd.message import in_stream
from outboxd.testing import FakeClock, FaultyStream, Harness, wait_until
from tests.promises.cast import (
    LOG,
    Act,
    Cast,
    Do,
    Done,
    Go,
    Unact,
    Undo,
    hosting,
    log,
    write,
)
from tests.promises.traffic import weather

pytestmark = pytest.mark.anyio

ENDED = "SELECT count(*) FROM outboxd_saga WHERE ended_at IS NOT NULL"


class Fortune:
    """A cast whose every step may be refused, may fail, and may take its time."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.cast = Cast()
        self.cast.on_do = self.cast.on_undo = self.decide
        self.cast.on_act = self.cast.on_unact = self.decide_later

        @self.cast.desk.saga
        async def trip(saga: Saga, go: Go) -> str:
            await saga.run(write, go.id, "began")
            saga.undo(write_undone, go.id)
            await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"), timeout="2h")
            await saga.call(Act(id=go.id), undo=Unact(id=go.id), timeout="2h")
            await saga.sleep(1)
            await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"), timeout="2h")
            return await saga.run(write, go.id, "ended")

    def decide(self, _: Any, message: Any) -> None:
        luck = self.chance.random()
        if luck < 0.1 and isinstance(message, (Do, Act)):
            raise Reject("bad luck")
        if luck < 0.25 and not isinstance(message, (Do, Act)):
            raise RuntimeError("a hiccup")

    async def decide_later(self, ctx: Any, message: Any) -> None:
        self.decide(ctx, message)


def write_undone(tx: Tx, id: str) -> None:
    """The first undo, so the last to run."""
    write(tx, id, "undone")


FORWARD: tuple[list[str], ...] = (["began", "ended"], ["do a", "do b"], ["act x"])
BACK: tuple[tuple[list[str], ...], ...] = (
    (["began", "undone"], [], []),
    (["began", "undone"], ["do a", "undo a"], []),
    (["began", "undone"], ["do a", "undo a"], ["act x", "unact x"]),
)


@pytest.mark.parametrize("memory", ["kept", "evicted", "forgotten"])
async def test_every_saga_comes_to_an_end_through_any_weather_and_any_restart(
    memory: str, tmp_path: Path, storm: int, request: pytest.FixtureRequest
) -> None:
    """Also where a coroutine is dropped as soon as another one moves, or after every commit."""
    if memory != "kept":
        request.getfixturevalue("evicting" if memory == "evicted" else "forgetful")
    for seed in range(storm):
        chance = random.Random(seed)
        clock = FakeClock()
        stream = FaultyStream(MemoryStream(clock), chance, weather(chance))
        data = tmp_path / str(seed)
        for start in range(0, 30, 10):
            cast = Fortune(chance).cast
            async with hosting(
                *cast.participants, data=data, clock=clock, stream=stream
            ) as harness:
                for n in range(start, start + 10):
                    await harness.start(Go(id=str(n)))
                await harness.hurry(partial(have_ended, harness, start + 4), 0.05, f"seed {seed}")
                if chance.random() < 0.5:
                    await stream.forget()
        cast = Fortune(chance).cast
        async with hosting(*cast.participants, data=data, clock=clock, stream=stream) as harness:
            await harness.hurry(lambda: have_ended(harness, 30), 0.05, f"seed {seed}, all")
            for n in range(30):
                await came_out_right(harness, str(n), f"seed {seed}")


async def have_ended(harness: Harness, count: int) -> bool:
    [ended] = await harness.column("desk", ENDED)
    return bool(ended >= count)


async def came_out_right(harness: Harness, key: str, said: str) -> None:
    """Everything was done, or nothing is left of it."""
    row = await harness.saga(f"desk/trip/{key}")
    found = tuple([await log(harness, name, key) for name in ("desk", "worker", "courier")])
    expected = (FORWARD,) if row.state == "completed" else BACK
    assert found in expected, f"{said}: {row.id} is {row.state}: {found}"


async def test_messages_to_a_participant_that_is_not_hosted_wait_for_it(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id))
        return "sent"

    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(cast.desk, data=tmp_path, clock=clock, stream=stream) as harness:
        assert await (await harness.start(Go(id="1"))).result() == "sent"
    await stream.forget()
    async with hosting(
        cast.desk, cast.worker, data=tmp_path, clock=clock, stream=stream
    ) as harness:
        await harness.hurry(lambda: log(harness, "worker"), 0.1)
        assert await log(harness, "worker") == ["do a"]


async def test_a_message_that_waits_is_still_there_after_a_restart(tmp_path: Path) -> None:
    """Retrying, behind it, running, delayed, unpublished: each in its place."""
    cast = Cast()
    cast.on_do = later
    gate = cast.gate_effects()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        for step in ("a", "b"):
            await saga.send(Do(id=go.id, step=step))
        await saga.send(Do(id=go.id, step="delayed"), delay="2h")
        await saga.send(Act(id=go.id))
        return "sent"

    async with hosting(*cast.participants, data=tmp_path, drain_s=0.05) as harness:
        await harness.start(Go(id="1"))
        await gate.reached.wait()
        await wait_until(lambda: are_held(harness, 2))
    again = Cast()
    async with hosting(*again.participants, data=tmp_path, clock=harness.clock) as harness:
        await wait_until(lambda: log(harness, "courier"))
        assert await log(harness, "worker") == []
        harness.advance(3600)
        await wait_until(lambda: is_log(harness, ["do a", "do b"]))
        harness.advance(3600)
        await wait_until(lambda: is_log(harness, ["do a", "do b", "do delayed"]))


def later(tx: Tx, cmd: Do) -> None:
    raise Retry("not now", after=3600)


async def are_held(harness: Harness, count: int) -> bool:
    return await harness.column("worker", "SELECT count(*) FROM outboxd_inbox") == [count]


async def is_log(harness: Harness, expected: list[str]) -> bool:
    return await log(harness, "worker") == expected


async def test_a_subscriber_that_is_away_finds_what_it_missed(tmp_path: Path) -> None:
    def listener() -> Participant:
        listener = Participant("listener", schema=LOG)

        @listener.handle
        def on_done(tx: Tx, event: Done) -> None:
            write(tx, event.id, event.step)

        return listener

    cast = Cast()
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(
        cast.worker, listener(), data=tmp_path, clock=clock, stream=stream
    ) as harness:
        await harness.send(Do(id="1", step="a"))
        await wait_until(lambda: log(harness, "listener"))
    async with hosting(cast.worker, data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.send_all(*[Do(id="1", step=step) for step in "bcd"])
        await wait_until(lambda: is_log(harness, ["do a", "do b", "do c", "do d"]))
        await stream.forget()
    async with hosting(
        cast.worker, listener(), data=tmp_path, clock=clock, stream=stream
    ) as harness:
        await harness.hurry(lambda: has_heard(harness, "abcd"), 0.1)


async def has_heard(harness: Harness, steps: str) -> bool:
    return await log(harness, "listener") == list(steps)


async def test_a_committed_message_that_never_reached_the_broker_is_published_later(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id))
        return "sent"

    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(*cast.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        stream.swallow(in_stream("worker"))
        assert await (await harness.start(Go(id="1"))).result() == "sent"
        await wait_until(lambda: [to for to, _ in stream.seen if to == in_stream("worker")])
    async with hosting(*cast.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.hurry(lambda: log(harness, "worker"), 0.1)
        assert await log(harness, "worker") == ["do a"]
