"""A handle belongs to the saga that its very start began, or there is none."""

from __future__ import annotations

import gc
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

import anyio
import pytest

from outboxd import Policy, Saga
from outboxd.errors import Refused, Unavailable
from outboxd.testing import FakeClock, Harness, wait_until
from tests.promises.cast import Cast, Do, Go, hosting, letters, log

pytestmark = pytest.mark.anyio


def crash(data: Path) -> None:
    """As if the last process had been killed: whatever comes is held before it runs."""
    with closing(sqlite3.connect(data / "desk.db")) as connection:
        connection.execute("UPDATE outboxd_meta SET value = 0 WHERE key = 'clean'")
        connection.commit()


def a_trip(cast: Cast, again: Literal["first", "refuse", "after_end"]) -> None:
    @cast.desk.saga(again=again)
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id))
        return saga.id


async def test_an_id_that_was_used_for_something_else_is_refused(
    cast: Cast, tmp_path: Path
) -> None:
    a_trip(cast, "first")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await (await harness.start(Go(id="1"), message_id="m")).result()
        for _ in range(2):
            with pytest.raises(Refused, match="m before, with other content"):
                await harness.start(Go(id="2"), message_id="m")
        assert await letters(harness, "desk") == [("Go", "dead")]
        again = await harness.start(Go(id="1"), message_id="m")
        assert await again.result() == "desk/trip/1"


async def test_the_same_message_finds_its_own_round(cast: Cast, tmp_path: Path) -> None:
    a_trip(cast, "after_end")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        assert await (await harness.start(Go(id="1"), message_id="m-1")).result() == "desk/trip/1"
        assert await (await harness.start(Go(id="1"), message_id="m-2")).result() == "desk/trip/1@2"
        for message_id, saga_id in (("m-1", "desk/trip/1"), ("m-2", "desk/trip/1@2")):
            assert (await harness.start(Go(id="1"), message_id=message_id)).id == saga_id
        assert await log(harness, "worker") == ["do a", "do a"]
        await harness.until_idle()
        for _ in range(5):
            await (await harness.start(Go(id="1"))).result()
        assert (await harness.start(Go(id="1"), message_id="m-2")).id == "desk/trip/1@2"


@pytest.mark.parametrize("all_at_once", [False, True])
@pytest.mark.parametrize("after_a_crash", [False, True])
async def test_a_further_start_is_the_next_round(
    cast: Cast, tmp_path: Path, all_at_once: bool, after_a_crash: bool
) -> None:
    a_trip(cast, "after_end")
    clock = FakeClock()
    async with hosting(*cast.participants, data=tmp_path, clock=clock) as harness:
        await (await harness.start(Go(id="1"))).result()
    if after_a_crash:
        crash(tmp_path)
    async with hosting(*cast.participants, data=tmp_path, clock=clock) as harness:
        assert await begin(harness, "1", all_at_once) == "desk/trip/1@2"
        await harness.until_saga("desk/trip/1@2", "completed")
        assert await begin(harness, "1", all_at_once) == "desk/trip/1@3"
        assert await begin(harness, "2", all_at_once) == "desk/trip/2"


@pytest.mark.parametrize("all_at_once", [False, True])
@pytest.mark.parametrize("after_a_crash", [False, True])
async def test_a_further_start_is_refused(
    cast: Cast, tmp_path: Path, all_at_once: bool, after_a_crash: bool
) -> None:
    a_trip(cast, "refuse")
    clock = FakeClock()
    async with hosting(*cast.participants, data=tmp_path, clock=clock) as harness:
        await (await harness.start(Go(id="1"), message_id="m")).result()
    if after_a_crash:
        crash(tmp_path)
    async with hosting(*cast.participants, data=tmp_path, clock=clock) as harness:
        with pytest.raises(Refused, match="desk/trip/1 was started before"):
            await begin(harness, "1", all_at_once)
        assert (await harness.start(Go(id="1"), message_id="m")).id == "desk/trip/1"
        assert await begin(harness, "2", all_at_once) == "desk/trip/2"


async def test_a_start_behind_a_saga_that_stands_is_told_so(cast: Cast, tmp_path: Path) -> None:
    """Its message waits; the start does not."""

    @cast.desk.saga(again="after_end")
    async def trip(saga: Saga, go: Go) -> str:
        raise ValueError("a bug")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="1"))
        await harness.until_saga("desk/trip/1", "stuck: bug")
        with anyio.fail_after(30):
            assert (await harness.start(Go(id="1"))).id == "desk/trip/1"


async def test_starts_that_were_cut_off_are_found_again(cast: Cast, tmp_path: Path) -> None:
    """A caller that does not know whether its start came through makes it again."""
    a_trip(cast, "after_end")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.runtime.hosted["desk"].submit(
            [harness.runtime._starts.to_start(Go(id="1"), "m").envelope]
        )
        await wait_until(lambda: harness.rows("desk", "SELECT 1 FROM outboxd_saga"))
        assert (await harness.start(Go(id="1"), message_id="m")).id == "desk/trip/1"


async def begin(harness: Harness, key: str, all_at_once: bool) -> str:
    with anyio.fail_after(30):
        if all_at_once:
            return (await harness.runtime.start_all([Go(id=key)]))[0].id
        return (await harness.start(Go(id=key))).id


async def test_a_start_whose_first_try_fails_is_told_of_its_own_round_and_no_other(
    cast: Cast, tmp_path: Path
) -> None:
    fails = [True]

    @cast.desk.saga(again="after_end", retry=Policy(attempts=5, base_s=30))
    async def trip(saga: Saga, go: Go) -> str:
        if fails and saga.id.endswith("@2"):
            fails.clear()
            raise ValueError("a bug, once")
        return saga.id

    told: list[str] = []
    async with hosting(*cast.participants, data=tmp_path, chance=lambda: 1.0) as harness:
        assert await (await harness.start(Go(id="1"))).result() == "desk/trip/1"

        async def starts_anew() -> None:
            handle = await harness.start(Go(id="1"), "mine")
            told.extend([handle.id, await handle.result()])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(starts_anew)
            await wait_until(lambda: not fails, "it has failed and waits for its next try")
            await harness.send(Go(id="1"))
            await harness.until_saga("desk/trip/1@2", "completed")
            harness.advance(60)
        assert told == ["desk/trip/1@3"] * 2


async def test_whoever_waits_for_a_result_no_more_leaves_nothing(
    cast: Cast, tmp_path: Path
) -> None:
    sleeps(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        for n in range(5):
            handle = await harness.runtime.start(Go(id=str(n)))
            with anyio.move_on_after(0.01):
                await handle.result()
        gc.collect()
        assert len(harness.runtime._ended) <= 1  # the last one, while its frame is not gone


async def test_whoever_waits_for_a_result_is_told_when_the_runtime_stops(
    cast: Cast, tmp_path: Path
) -> None:
    sleeps(cast)
    said: list[str] = []
    async with (
        anyio.create_task_group() as tasks,
        hosting(*cast.participants, data=tmp_path) as harness,
    ):
        handle = await harness.runtime.start(Go(id="1"))

        async def waits() -> None:
            with pytest.raises(Unavailable) as told:
                await handle.result()
            said.append(str(told.value))

        tasks.start_soon(waits)
        await anyio.wait_all_tasks_blocked()
    assert len(said) == 1


def sleeps(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep("1h")
        return ""
