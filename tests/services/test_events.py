"""Events: who hears them, from when on, once each; sagas that start on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import Command, Event, Participant, Saga, Tx
from outboxd.memory_stream import MemoryStream
from outboxd.testing import FakeClock, FaultyStream, Harness, wait_until
from tests.promises.cast import LOG, Cast, Do, Done, hosting, letters, log, write

pytestmark = pytest.mark.anyio


class Other(Event, source="teller", key="id"):
    """An event that few want."""

    id: str


class Told(Event, source="teller", key="id"):
    """An event that many want."""

    id: str
    number: int


class Tell(Command[None], to="teller", key="id"):
    """Publishes both."""

    id: str
    numbers: list[int]


def teller() -> Participant:
    teller = Participant("teller", schema=LOG)

    @teller.handle
    def tell(tx: Tx, cmd: Tell) -> None:
        for number in cmd.numbers:
            tx.publish(Other(id=cmd.id))
            tx.publish(Told(id=cmd.id, number=number))

    return teller


def listener(name: str, since: str = "now") -> Participant:
    listener = Participant(name, schema=LOG)

    @listener.handle(since=since)  # type: ignore[call-overload, untyped-decorator]
    def on_told(tx: Tx, event: Told) -> None:
        write(tx, event.id, str(event.number))

    return listener


async def heard(harness: Harness, name: str, expected: str) -> None:
    """Waits until a listener has heard exactly these numbers, in this order."""

    async def has_heard() -> bool:
        return len(await log(harness, name)) >= len(expected.split())

    await wait_until(has_heard, f"{name} hears {expected}")
    assert await log(harness, name) == expected.split()


async def test_each_subscriber_hears_each_event_once_and_in_order(tmp_path: Path) -> None:
    async with hosting(teller(), listener("one"), listener("two"), data=tmp_path) as harness:
        await harness.send(Tell(id="k", numbers=[1, 2, 3]))
        await harness.send(Tell(id="k", numbers=[4, 5]))
        await heard(harness, "one", "1 2 3 4 5")
        await heard(harness, "two", "1 2 3 4 5")
        await harness.until_idle()
        assert await letters(harness, "one") == []
        assert await harness.rows("teller", "SELECT id FROM outboxd_outbox") == []


async def test_a_subscription_begins_now(tmp_path: Path) -> None:
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(teller(), data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.send(Tell(id="k", numbers=[1, 2]))
        await harness.until_idle()
    async with hosting(
        teller(), listener("late"), data=tmp_path, clock=clock, stream=stream
    ) as harness:
        await harness.send(Tell(id="k", numbers=[3]))
        await heard(harness, "late", "3")


async def test_or_with_what_is_still_there(tmp_path: Path) -> None:
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(
        teller(), listener("first"), data=tmp_path, clock=clock, stream=stream
    ) as harness:
        await harness.send(Tell(id="k", numbers=[1, 2]))
        await heard(harness, "first", "1 2")
    async with hosting(
        teller(),
        listener("first"),
        listener("late", since="retained"),
        data=tmp_path,
        clock=clock,
        stream=stream,
    ) as harness:
        await heard(harness, "late", "1 2")
        await harness.send(Tell(id="k", numbers=[3]))
        await heard(harness, "late", "1 2 3")
        await heard(harness, "first", "1 2 3")


async def test_a_subscriber_that_is_slow_holds_up_no_other(tmp_path: Path) -> None:
    slow = Participant("slow", schema=LOG)
    fails = [True]

    @slow.handle
    def on_told(tx: Tx, event: Told) -> None:
        if fails[0]:
            raise RuntimeError("not yet")
        write(tx, event.id, str(event.number))

    async with hosting(
        teller(), slow, listener("fast"), data=tmp_path, chance=lambda: 1.0
    ) as harness:
        await harness.send(Tell(id="k", numbers=[1, 2, 3]))
        await heard(harness, "fast", "1 2 3")
        assert await log(harness, "slow") == []
        fails[0] = False
        harness.advance(10)
        await heard(harness, "slow", "1 2 3")


async def test_a_participant_hears_its_own_events(tmp_path: Path) -> None:
    both = teller()

    @both.handle
    def on_told(tx: Tx, event: Told) -> None:
        write(tx, event.id, str(event.number))

    async with hosting(both, data=tmp_path) as harness:
        await harness.send(Tell(id="k", numbers=[1, 2]))
        await heard(harness, "teller", "1 2")


async def test_a_saga_starts_on_an_event_once_per_key(cast: Cast, tmp_path: Path) -> None:
    starter = Participant("starter", schema=LOG)

    @starter.saga
    async def follow(saga: Saga, event: Told) -> None:
        await saga.call(Do(id=event.id, step=str(event.number)))

    async with hosting(teller(), starter, cast.worker, data=tmp_path) as harness:
        await harness.send_all(Tell(id="a", numbers=[1, 2]), Tell(id="b", numbers=[3]))
        await harness.until_saga("starter/follow/a", "completed")
        await harness.until_saga("starter/follow/b", "completed")
        await harness.until_idle()
        assert sorted(await log(harness, "worker")) == ["do 1", "do 3"]


async def test_an_event_that_nobody_hears_is_not_kept(cast: Cast, tmp_path: Path) -> None:
    async with hosting(cast.worker, data=tmp_path) as harness:
        await harness.send_all(*[Do(id=str(n)) for n in range(20)])
        await harness.until_idle()
        assert await harness.rows("worker", "SELECT id FROM outboxd_outbox") == []


async def test_a_new_subscriber_of_a_publisher_that_is_away(cast: Cast, tmp_path: Path) -> None:
    """It asks, and is answered when the publisher comes; until then nothing is stuck."""
    late = Participant("late", schema=LOG)

    @late.handle
    def on_done(tx: Tx, event: Done) -> None:
        write(tx, event.id, event.step)

    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(late, data=tmp_path, clock=clock, stream=stream) as harness:
        await wait_until(lambda: [to for to, _ in stream.seen])
    async with hosting(late, cast.worker, data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.send(Do(id="1", step="first"))
        await wait_until(lambda: log(harness, "late"))
        assert await log(harness, "late") == ["first"]
