"""What is sent with a delay: it waits in its sender's database, and sets out once, at its time."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from outboxd import Command, Participant, Rejected, Saga, Tx
from outboxd.monitor import Monitor
from outboxd.testing import FakeClock, Harness, wait_until
from tests.promises.cast import LOG, Cast, Do, Go, hosting, log, until_step, write

pytestmark = pytest.mark.anyio

HOUR = 3600.0
DAY = 24 * HOUR


class Remind(Command[None], to="nurse", key="id"):
    """Sent with a delay."""

    id: str
    text: str


class Visit(Command[None], to="nurse", key="id"):
    """Asks for reminders."""

    id: str
    texts: list[str]


def nurse() -> Participant:
    nurse = Participant("nurse", schema=LOG)

    @nurse.handle
    def visit(tx: Tx, cmd: Visit) -> None:
        for text in cmd.texts:
            tx.send(Remind(id=cmd.id, text=text), delay="1d")

    @nurse.handle
    def remind(tx: Tx, cmd: Remind) -> None:
        write(tx, cmd.id, cmd.text)

    return nurse


async def waiting(harness: Harness, participant: str = "nurse") -> int:
    """How many messages wait for their time."""
    [count] = await harness.column(participant, "SELECT count(*) FROM outboxd_delayed")
    return int(count)


async def are_waiting(harness: Harness, count: int) -> bool:
    return await waiting(harness) == count


async def test_it_sets_out_at_its_time_in_the_order_in_which_it_was_sent(tmp_path: Path) -> None:
    async with hosting(nurse(), data=tmp_path) as harness:
        await harness.send(Visit(id="1", texts=list("edcba")))
        await wait_until(lambda: waiting(harness))
        harness.advance(DAY - 60)
        assert await waiting(harness) == 5
        harness.advance(60)
        await wait_until(lambda: log(harness, "nurse"))
        assert await log(harness, "nurse") == list("edcba")
        assert await waiting(harness) == 0


async def test_messages_that_outsiders_have_called_the_same_all_set_out(tmp_path: Path) -> None:
    """A feed's order 7 and somebody's request 7 are two messages, and so is what follows."""
    async with hosting(nurse(), data=tmp_path) as harness:
        await harness.send(Visit(id="1", texts=["by a request"]), message_id="7")
        await harness.runtime.send(Visit(id="2", texts=["by an application"]), message_id="7")
        await wait_until(lambda: are_waiting(harness, 2))
        harness.advance(DAY)
        await wait_until(lambda: log(harness, "nurse", "2"))
        assert await log(harness, "nurse", "1") == ["by a request"]


async def test_pruning_leaves_what_waits_whatever_its_sender_was(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id, step="much later"), delay="400d")
        return "sent"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await (await harness.start(Go(id="1"))).result()
        for _ in range(4):
            harness.advance(99 * DAY)
            for hosted in harness.runtime.hosted.values():
                await hosted.prune(harness.clock.now())
        assert await harness.column("desk", "SELECT id FROM outboxd_saga") == []
        assert await waiting(harness, "desk") == 1
        harness.advance(5 * DAY)
        await wait_until(lambda: log(harness, "worker"))
        assert await log(harness, "worker") == ["do much later"]


async def test_what_a_saga_has_sent_is_not_called_back_when_it_unwinds(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id), delay="2h")
        await saga.sleep("1h")
        saga.fail("not wanted any more")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        harness.advance(HOUR)
        with pytest.raises(Rejected, match="not wanted"):
            await handle.result()
        harness.advance(HOUR)
        await wait_until(lambda: log(harness, "worker"))


@pytest.mark.parametrize("jump_s", [12 * HOUR, -12 * HOUR])
async def test_a_jump_of_the_wall_clock_moves_it_neither_way_over_a_restart(
    tmp_path: Path, jump_s: float
) -> None:
    clock = FakeClock()
    async with hosting(nurse(), data=tmp_path, clock=clock) as harness:
        await harness.send(Visit(id="1", texts=["a"]))
        await wait_until(lambda: waiting(harness))
        clock.jump(jump_s)
        harness.advance(HOUR)
        await wait_until(lambda: is_due_in(harness, 23 * HOUR))
    async with hosting(nurse(), data=tmp_path, clock=clock) as harness:
        harness.advance(22 * HOUR)
        assert await waiting(harness) == 1
        harness.advance(HOUR)
        await wait_until(lambda: log(harness, "nurse"))


async def is_due_in(harness: Harness, span_s: float) -> bool:
    [due_at] = await harness.column("nurse", "SELECT due_at FROM outboxd_delayed")
    return bool(abs(due_at - harness.clock.now() - span_s) < 60)


async def test_a_run_until_idle_waits_for_it(tmp_path: Path) -> None:
    """It is under way, as a saga that sleeps is."""
    async with hosting(nurse(), data=tmp_path) as harness:
        await harness.send(Visit(id="1", texts=["a"]))
        await wait_until(lambda: waiting(harness))
        ended = anyio.Event()

        async def wait_for_the_end() -> None:
            await harness.until_idle()
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_the_end)
            with anyio.move_on_after(0.5):
                await ended.wait()
            assert not ended.is_set()
            harness.advance(DAY)
            await ended.wait()
        assert await log(harness, "nurse") == ["a"]


async def test_it_is_shown_with_its_time(tmp_path: Path) -> None:
    clock = FakeClock(1_800_000_000.0, rate=0)
    async with hosting(nurse(), data=tmp_path, clock=clock) as harness:
        await harness.send(Visit(id="1", texts=["a"]), message_id="v")
        await wait_until(lambda: waiting(harness))
    with Monitor(tmp_path, clock) as monitor:
        [row] = monitor.messages("state:delayed")
        assert (row.id, row.type, row.key) == ("v.nurse.1", "Remind", "1")
        said = monitor.why("v.nurse.1")
        assert said.state == "delayed"
        assert said.waits_for == ("for its time: nurse sends it to outboxd:{nurse}:in in 24h",)
