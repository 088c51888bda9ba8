"""P5: per key, sender and participant in the order sent, one at a time; other keys never wait."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from outboxd import Retry
from tests.promises.cast import hosting
from tests.promises.traffic import Traffic, calm, moody, weather

pytestmark = pytest.mark.anyio


async def test_everything_comes_once_and_in_order_through_any_weather(
    tmp_path: Path, storm: int
) -> None:
    """The broker loses, repeats and reorders entries, calls fail, handlers fail."""
    for seed in range(3 * storm):
        chance = random.Random(seed)
        faults = weather(chance)
        traffic = Traffic(moody(chance, chance.uniform(0, 0.4)))
        async with hosting(*traffic.participants, data=tmp_path / str(seed)) as harness:
            harness.stream.chance, harness.stream.faults = chance, faults
            for _ in range(3):
                await traffic.emit(harness, a=chance.randint(1, 20), b=5, c=8, d=12)
            await traffic.arrival(harness, said=f"(seed {seed}, {faults})")


async def test_other_keys_never_wait_for_one_that_fails_for_an_hour(tmp_path: Path) -> None:
    def closed(key: str, number: int) -> None:
        if key == "slow" and number == 3:
            raise Retry("the bank is closed", after=3600)

    traffic = Traffic(closed)
    async with hosting(*traffic.participants, data=tmp_path) as harness:
        await traffic.emit(harness, slow=10, a=50, b=50, c=50)
        traffic.emitted["slow"] = 3
        await traffic.arrival(harness, 0.0, "of the others")
        traffic.mood = calm
        traffic.emitted["slow"] = 10
        harness.advance(3601)
        await traffic.arrival(harness, 0.0, "of the slow one")
