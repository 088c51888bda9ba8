"""P4: a message changes a database once, however often and however late it is delivered."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from outboxd import Saga
from outboxd.message import in_stream
from outboxd.testing import Faults, Harness, Moment, wait_until
from tests.promises.cast import Act, Cast, Do, Go, Unact, Undo, hosting, log, sent_to
from tests.promises.traffic import Traffic

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("moment", get_args(Moment))
async def test_a_call_to_the_broker_that_fails_repeats_nothing(
    moment: Moment, tmp_path: Path
) -> None:
    """Before it was carried out, or after, when nobody knows whether it was."""
    traffic = Traffic()
    async with hosting(*traffic.participants, data=tmp_path) as harness:
        await traffic.emit(harness, a=3)
        for times in (1, 2, 3):
            harness.stream.fail(moment, times)
            await traffic.emit(harness, a=5, b=5)
            await traffic.arrival(harness, said=f"({moment}, {times} times)")


async def test_everything_delivered_three_times_is_done_once(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        saga.fail("no more")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.faults = Faults(duplicate=1.0)
        handles = [await harness.start(Go(id=str(n))) for n in range(5)]
        for handle in handles:
            await harness.until_saga(handle.id, "compensated")
            key = handle.id.rpartition("/")[2]
            assert await log(harness, "worker", key) == ["do a", "undo a"]
            assert await log(harness, "courier", key) == ["act x", "unact x"]


async def test_a_message_that_comes_again_much_later_is_known(cast: Cast, tmp_path: Path) -> None:
    """The numbers remember for ever, and need no row for it."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id))
        return "sent"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        for n in range(10):
            assert await (await harness.start(Go(id=str(n)))).result() == "sent"
        await wait_until(lambda: has_done(harness, 10))
        old = [body for to, body in harness.stream.seen if to == in_stream("worker")]
        harness.advance(366 * 86400.0)
        for body in old:
            await harness.put("worker", body)
        assert await (await harness.start(Go(id="last"))).result() == "sent"
        await wait_until(lambda: has_done(harness, 11))
        assert await harness.rows("worker", "SELECT * FROM outboxd_seen") == []


async def has_done(harness: Harness, count: int) -> bool:
    return len(await log(harness, "worker")) == count


async def test_a_saga_ends_once_though_its_last_answer_comes_often(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id))

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        assert await handle.result() == "do a"
        [answer] = [body for to, body in harness.stream.seen if to == in_stream("desk")]
        for _ in range(3):
            await harness.put("desk", answer)
        assert await (await harness.start(Go(id="2"))).result() == "do a"
        kinds = "SELECT kind FROM outboxd_journal WHERE saga = ? ORDER BY n"
        assert await harness.column("desk", kinds, handle.id) == ["call", "ok", "ended"]
        assert len(sent_to(harness, "worker")) == 2
