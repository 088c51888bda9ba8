"""P7: every wait has a deadline, which measures time in which an answer could have come."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import Participant, Rejected, Retry, Saga, Tx
from outboxd.message import in_stream
from outboxd.testing import FakeClock, Harness, wait_until
from tests.promises import cast as stage
from tests.promises.cast import Act, Cast, Do, Go, Unact, Undo, hosting, log, until_step
from tests.promises.conftest import Outage

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("on_each_broker")]

WORKER, DESK = in_stream("worker"), in_stream("desk")
COUNT = 100


def waiting(strict: bool = False) -> Cast:
    """Sagas of one call each, with a minute's deadline."""
    cast = Cast()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id), undo=Undo(id=go.id), strict=strict)

    return cast


def sleeping() -> Cast:
    """Sagas that sleep for an hour, and then work."""
    cast = Cast()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.sleep("1h")
        return await saga.call(Do(id=go.id))

    return cast


class Place:
    """A directory, a broker and a clock that outlive a run."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = FakeClock()
        self.stream = stage.new_stream(self.clock)

    def host(self, cast: Cast, *only: Participant):  # type: ignore[no-untyped-def]
        """Hosts the cast, or some of it, here."""
        return hosting(
            *(only or cast.participants), data=self.data, clock=self.clock, stream=self.stream
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def states(harness: Harness) -> dict[str, int]:
    sql = "SELECT state, count(*) FROM outboxd_saga GROUP BY state"
    return {row[0]: row[1] for row in await harness.rows("desk", sql)}


async def are_all(harness: Harness, state: str, count: int = COUNT) -> bool:
    return await states(harness) == {state: count}


async def test_an_hour_without_the_process_times_nobody_out(place: Place) -> None:
    place.stream.hold(WORKER)
    async with place.host(waiting()) as harness:
        for n in range(COUNT):
            await harness.start(Go(id=str(n)))
        await wait_until(lambda: are_all(harness, "running"))
        harness.advance(20)
    place.clock.advance(3600)
    async with place.host(waiting()) as harness:
        await wait_until(lambda: has_looked(harness))
        harness.advance(35)  # 55 s of time that counts
        place.stream.release(WORKER)
        await wait_until(lambda: are_all(harness, "completed"))
        assert await harness.rows("desk", "SELECT * FROM outboxd_undo") == []


async def test_what_is_left_of_a_deadline_counts_on_after_a_stop(place: Place) -> None:
    place.stream.hold(WORKER)
    async with place.host(waiting()) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")
        harness.advance(20)
    place.clock.advance(3600)
    async with place.host(waiting()) as harness:
        await wait_until(lambda: has_looked(harness))
        harness.advance(30)
        assert (await harness.saga(handle.id)).state == "running"
        harness.advance(15)
        await harness.until_saga(handle.id, "compensating")
        place.stream.release(WORKER)
        await harness.until_saga(handle.id, "compensated")


def has_looked(harness: Harness) -> bool:
    """Whether the desk has read its stream to its end."""
    return harness.runtime.hosted["desk"].may_time_out()


async def test_a_strict_deadline_counts_the_hour(place: Place) -> None:
    place.stream.hold(WORKER)
    async with place.host(waiting(strict=True)) as harness:
        for n in range(COUNT):
            await harness.start(Go(id=str(n)))
        await wait_until(lambda: are_all(harness, "running"))
    place.clock.advance(3600)
    async with place.host(waiting(strict=True)) as harness:
        await wait_until(lambda: are_all(harness, "compensating"))
        place.stream.release(WORKER)
        await wait_until(lambda: are_all(harness, "compensated"))


async def test_a_sleep_ends_though_nobody_was_there(place: Place) -> None:
    async with place.host(sleeping()) as harness:
        for n in range(COUNT):
            await harness.start(Go(id=str(n)))
        await wait_until(lambda: are_all(harness, "running"))
    place.clock.advance(3600)
    async with place.host(sleeping()) as harness:
        await wait_until(lambda: are_all(harness, "completed"))


async def test_answers_that_came_meanwhile_are_read_before_any_deadline_is_kept(
    place: Place,
) -> None:
    """The worker ran while the desk did not: its answers lie in the stream."""
    cast = waiting(strict=True)
    place.stream.hold(WORKER)
    async with place.host(cast) as harness:
        for n in range(COUNT):
            await harness.start(Go(id=str(n)))
        await wait_until(lambda: are_all(harness, "running"))
        await harness.hurry(lambda: has_published(harness), 0.0)
    place.stream.release(WORKER)
    async with place.host(cast, cast.worker) as harness:
        await wait_until(lambda: has_worked(harness))
        await harness.hurry(lambda: worker_is_published(harness), 0.0)
    place.clock.advance(3600)
    async with place.host(waiting(strict=True)) as harness:
        await wait_until(lambda: are_all(harness, "completed"))


async def has_published(harness: Harness) -> bool:
    return len([to for to, _ in harness.stream.seen if to == WORKER]) >= COUNT


async def has_worked(harness: Harness) -> bool:
    return len(await log(harness, "worker")) == COUNT


async def worker_is_published(harness: Harness) -> bool:
    return len([to for to, _ in harness.stream.seen if to == DESK]) >= COUNT


async def test_an_hour_without_the_broker_times_nobody_out(
    place: Place, on_each_broker: Outage
) -> None:
    async with place.host(waiting()) as harness:
        place.stream.hold(WORKER)
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")
        on_each_broker.begin(place.stream)
        await wait_until(lambda: harness.runtime.progress().broker != "up")
        harness.advance(3600)
        on_each_broker.end(place.stream)
        await wait_until(lambda: harness.runtime.progress().broker == "up")
        await wait_until(lambda: has_looked(harness))
        assert (await harness.saga(handle.id)).state == "running"
        place.stream.release(WORKER)
        await harness.until_saga(handle.id, "completed")


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_jump_of_the_wall_clock_moves_no_deadline(jump_s: float, place: Place) -> None:
    async with place.host(waiting()) as harness:
        place.stream.hold(WORKER)
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")
        harness.advance(50)
        place.clock.jump(jump_s)
        harness.advance(0)
        await wait_until(lambda: is_due_in(harness, 10.0))
        assert (await harness.saga(handle.id)).state == "running"
        harness.advance(15)
        await harness.until_saga(handle.id, "compensating")
        place.stream.release(WORKER)
        await harness.until_saga(handle.id, "compensated")


async def is_due_in(harness: Harness, span_s: float) -> bool:
    [due_at] = await harness.column("desk", "SELECT due_at FROM outboxd_call")
    return due_at is not None and abs(due_at - harness.clock.now() - span_s) < 5


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_jump_of_the_wall_clock_moves_no_retry_and_no_delay(
    jump_s: float, place: Place
) -> None:
    cast = Cast()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id, step="delayed"), delay="2h")
        await saga.send(Act(id=go.id))
        return "sent"

    async def fail(ctx: object, cmd: Act) -> None:
        raise Retry("not now", after=7200)

    cast.on_act = fail
    async with place.host(cast) as harness:
        await (await harness.start(Go(id="1"))).result()
        await wait_until(lambda: harness.column("courier", "SELECT 1 FROM outboxd_attempt"))
        cast.mend()
        place.clock.jump(jump_s)
        harness.advance(0)
        await wait_until(lambda: are_due_in(harness, 7200))
        harness.advance(7200)
        await wait_until(lambda: log(harness, "courier"))
        await wait_until(lambda: log(harness, "worker"))


async def are_due_in(harness: Harness, span_s: float) -> bool:
    found = await harness.column("courier", "SELECT due_at FROM outboxd_inbox")
    found += await harness.column("desk", "SELECT due_at FROM outboxd_delayed")
    return all(abs(due_at - harness.clock.now() - span_s) < 5 for due_at in found)


async def test_a_jump_of_the_wall_clock_shortens_no_sleep(place: Place) -> None:
    async with place.host(sleeping()) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        place.clock.jump(86400)
        harness.advance(0)
        await wait_until(lambda: is_due_in(harness, 3600.0))
        harness.advance(1800)
        assert (await harness.saga(handle.id)).state == "running"
        harness.advance(1800)
        await harness.until_saga(handle.id, "completed")


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_call_opened_right_after_a_jump_keeps_its_minute(
    jump_s: float, place: Place
) -> None:
    async with place.host(waiting()) as harness:
        place.stream.hold(WORKER)
        await wait_until(lambda: has_looked(harness))
        place.clock.jump(jump_s)
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "Do")
        harness.advance(0)
        harness.advance(55)
        await harness.start(Go(id="2"))
        await until_step(harness, "desk/trip/2", "Do")
        assert (await harness.saga(handle.id)).state == "running"
        harness.advance(10)
        await harness.until_saga(handle.id, "compensating")
        assert (await harness.saga("desk/trip/2")).state == "running"
        place.stream.release(WORKER)


async def test_every_wait_has_a_deadline(place: Place) -> None:
    """Of sagas at each kind of wait, none is without a due time, an operator, or an undo's day."""
    cast = Cast()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        if go.id == "sleeps":
            await saga.sleep("1h")
        try:
            return await saga.call(Act(id=go.id, step=go.id), undo=Unact(id=go.id, step=go.id))
        except Rejected:
            return "no"

    def fail(tx: Tx, cmd: Do) -> None:
        raise RuntimeError("never")

    cast.on_do = fail
    gate = cast.gate_effects()
    async with place.host(cast) as harness:
        for key in ("sleeps", "calls"):
            await harness.start(Go(id=key))
        await gate.reached.wait()
        sql = (
            "SELECT id FROM outboxd_saga s WHERE ended_at IS NULL AND state <> 'stuck'"
            " AND NOT EXISTS (SELECT 1 FROM outboxd_call WHERE saga = s.id AND due_at IS NOT NULL)"
            " AND NOT EXISTS (SELECT 1 FROM outboxd_undo WHERE saga = s.id AND state = 'sent')"
        )
        assert await harness.rows("desk", sql) == []
        harness.advance(61)
        await harness.until_saga("desk/trip/calls", "compensating")
        assert await harness.rows("desk", sql) == []
        gate.open.set()
        await harness.until_saga("desk/trip/calls", "compensated")
