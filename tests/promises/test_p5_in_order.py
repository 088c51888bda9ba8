"""P5: per key, sender and participant in the order sent, one at a time; other keys never wait."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from outboxd import Retry
from outboxd.testing import Faults
from tests.promises.cast import hosting
from tests.promises.traffic import Traffic, moody

pytestmark = pytest.mark.anyio


async def test_everything_comes_once_and_in_order_through_any_weather(
    tmp_path: Path, storm: int
) -> None:
    """The broker loses, repeats and reorders entries, calls fail, handlers fail."""
    for seed in range(4 * storm):
        chance = random.Random(seed)
        faults = Faults(
            lose=chance.uniform(0, 0.2),
            duplicate=chance.uniform(0, 0.3),
            reorder=chance.uniform(0, 0.3),
            publish_before=chance.uniform(0, 0.2),
            publish_after=chance.uniform(0, 0.2),
            read_after=chance.uniform(0, 0.2),
            ack_before=chance.uniform(0, 0.2),
            ack_after=chance.uniform(0, 0.2),
        )
        traffic = Traffic(moody(chance, chance.uniform(0, 0.4)))
        async with hosting(*traffic.participants, data=tmp_path / str(seed)) as harness:
            harness.stream.chance = chance
            harness.stream.faults = faults
            for _ in range(5):
                for key in "abcd":
                    await traffic.emit(harness, key, chance.randint(1, 12))
            await harness.hurry(lambda: traffic.has_arrived(harness), 0.1, f"seed {seed}: all")
            assert await traffic.errors(harness) == [], f"seed {seed}, {faults}"


async def test_other_keys_never_wait_for_one_that_fails_for_an_hour(tmp_path: Path) -> None:
    def closed(key: str, number: int) -> None:
        if key == "slow" and number == 3:
            raise Retry("the bank is closed", after=3600)

    traffic = Traffic(closed)
    async with hosting(*traffic.participants, data=tmp_path) as harness:
        await traffic.emit(harness, "slow", 10)
        traffic.emitted["slow"] = 3
        for key in "abc":
            await traffic.emit(harness, key, 50)
        await harness.hurry(lambda: traffic.has_arrived(harness), 0.0, "the others")
        assert await traffic.errors(harness) == []
        traffic.mood = lambda *_: None
        traffic.emitted["slow"] = 10
        harness.advance(3601)
        await harness.hurry(lambda: traffic.has_arrived(harness), 0.0, "the slow ones too")
        assert await traffic.errors(harness) == []
