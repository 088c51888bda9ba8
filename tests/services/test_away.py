"""Receivers that are away, and effects without a place: what waits for them costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outboxd import Saga, holding, window
from outboxd.holding import Holding
from outboxd.memory_stream import MemoryStream
from outboxd.message import in_stream
from outboxd.testing import FakeClock, wait_until
from tests.promises.cast import Act, Cast, Do, Go, hosting, log, new_stream

pytestmark = pytest.mark.anyio

WORKER = in_stream("worker")


async def test_a_receiver_that_is_away_fills_no_broker(
    cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "MOST", 5)

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        for n in range(12):
            await saga.send(Do(id=go.id, step=str(n)))
        return "sent"

    clock = FakeClock()
    stream = new_stream(clock)
    assert isinstance(stream.broker, MemoryStream)
    async with hosting(cast.desk, data=tmp_path, clock=clock, stream=stream) as harness:
        await (await harness.start(Go(id="1"))).result()
        relay = harness.runtime.hosted["desk"].relay
        await wait_until(lambda: relay.progress[WORKER].published == 5)
        assert relay.progress[WORKER].last == 12
        assert (await stream.position(WORKER, "worker")).length == 5
    async with hosting(*cast.participants, data=tmp_path, clock=clock, stream=stream) as harness:

        async def all_of_it() -> bool:
            return await log(harness, "worker") == [f"do {n}" for n in range(12)]

        await wait_until(all_of_it, "everything in its order")


async def test_effects_that_wait_for_a_place_are_not_asked_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast, many = Cast(concurrency=1), 40
    asked: list[int] = []
    take_place = Holding.take_place

    def counted(self: Holding, *args: Any) -> bool:
        asked.append(1)
        return take_place(self, *args)

    monkeypatch.setattr(Holding, "take_place", counted)
    monkeypatch.setattr(holding, "PLACE_S", 0.02)
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send_all(*(Act(id=str(n)) for n in range(many)))
        await wait_until(lambda: len(asked) >= many)
        await wait_until(lambda: len(asked) >= many + 5, "the first of them looks")
        assert len(asked) < 2 * many
        gate.open.set()
        await harness.until_idle()
        assert len(await log(harness, "courier")) == many
        assert len(asked) < 4 * many


async def test_whoever_follows_one_that_is_closed_gets_its_place(tmp_path: Path) -> None:
    cast = Cast(concurrency=1)

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id))

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        first = await harness.start(Go(id="first"))
        await gate.reached.wait()
        second = await harness.start(Go(id="second"))
        courier = harness.runtime.hosted["courier"].delivery.holding
        await wait_until(lambda: len(courier.waiting.get("Act", ())) == 1)
        third = await harness.start(Go(id="third"))
        await wait_until(lambda: len(courier.waiting.get("Act", ())) == 2)
        await harness.cancel(second.id)
        await wait_until(lambda: len(courier.waiting.get("Act", ())) == 1)
        gate.open.set()
        assert await first.result() == await third.result() == "act x"
