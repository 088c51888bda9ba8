"""Code that asks for something else each time is found when its saga is rebuilt, and told."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outboxd import Saga
from tests.promises.cast import Act, Cast, Go, hosting

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("forgetful")]

CHANCES: dict[str, Callable[[], str]] = {
    "random": lambda: f"{random.random()}",
    "time": lambda: f"{time.time()}",
    "uuid4": lambda: f"{uuid.uuid4()}",
    "datetime.now": lambda: f"{datetime.now(UTC)}",
}

INSTEAD = "it uses saga.now() and saga.uuid() instead of time, datetime.now, random and uuid4"


@pytest.mark.parametrize("chance", CHANCES)
async def test_what_differs_from_replay_to_replay_is_found(
    cast: Cast, tmp_path: Path, chance: str
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id, step=CHANCES[chance]()))

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        row = await harness.until_saga(handle.id, "stuck: code changed")
        assert "step 1: the journal has call Act with other content" in (row.detail or "")
        assert INSTEAD in (row.detail or "")


async def test_a_sleep_of_a_random_span_is_found(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep(1 + random.random())
        return "slept"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        harness.advance(3)
        row = await harness.until_saga(handle.id, "stuck: code changed")
        assert INSTEAD in (row.detail or "")


async def test_what_the_saga_offers_is_the_same_each_time(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Act(id=go.id, step=str(saga.now())))
        await saga.call(Act(id=go.id, step=str(saga.uuid())))
        return "done"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "done"
