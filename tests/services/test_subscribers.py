"""A subscriber that is gone for good: told of, removed by an operator, and welcome again."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import operate
from outboxd.errors import NotFound, Refused
from outboxd.janitor import RETAIN_S
from outboxd.message import events_stream
from outboxd.monitor import Monitor, audit
from outboxd.relay import SILENT_S
from outboxd.testing import FakeClock, Harness, running, wait_until
from tests.promises.cast import hosting, log, new_stream
from tests.services.test_events import Tell, heard, listener, teller

pytestmark = pytest.mark.anyio

EVENTS = events_stream("teller")


async def kept(harness: Harness) -> int:
    return len(await harness.rows("teller", "SELECT 1 FROM outboxd_outbox"))


async def test_events_settle_once_a_subscriber_is_removed(tmp_path: Path) -> None:
    clock = FakeClock()
    stream = new_stream(clock)
    async with hosting(
        teller(), listener("one"), listener("two"), data=tmp_path, clock=clock, stream=stream
    ) as harness:
        await harness.send(Tell(id="k", numbers=[1]))
        await harness.until_idle()
    async with hosting(
        teller(), listener("one"), data=tmp_path, clock=clock, stream=stream
    ) as harness:
        await harness.send(Tell(id="k", numbers=[2]))
        await heard(harness, "one", "1 2")
        hosted = harness.runtime.hosted["teller"]
        await wait_until(lambda: list(hosted.relay._readers) == ["two"])
        assert hosted.problems == []
        harness.advance(SILENT_S + 60)
        await wait_until(lambda: hosted.problems)
        assert "two has not read the events of teller for 11m" in hosted.problems[0]
        assert "`outboxd subscriber remove two --from teller`" in hosted.problems[0]
        assert await kept(harness) == 2
        said = await harness.request("subscriber.remove", "teller", "two")
        assert said == "two subscribes to the events of teller no more"
        await harness.until_idle()
        assert await kept(harness) == 0
        assert hosted.problems == []
        assert not (await stream.position(EVENTS, "two")).group_exists
    async with hosting(
        teller(), listener("one"), listener("two"), data=tmp_path, clock=clock, stream=stream
    ) as harness:
        await harness.send(Tell(id="k", numbers=[3, 4]))
        await heard(harness, "one", "1 2 3 4")
        await heard(harness, "two", "1 3 4")
        await harness.until_idle()


async def test_a_subscriber_of_another_process_subscribes_anew(tmp_path: Path) -> None:
    clock = FakeClock()
    stream = new_stream(clock)
    async with running(teller(), data=tmp_path / "a", clock=clock, stream=stream) as tells:
        for numbers, heard_then in (([1], "1"), ([3], "1 3")):
            async with running(
                listener("two"), data=tmp_path / "b", clock=clock, stream=stream
            ) as hears:
                await wait_until(
                    lambda: "two" in tells.runtime.hosted["teller"].delivery.subscribing.subscribers
                )
                await hears.until_idle()
                await tells.send(Tell(id="k", numbers=numbers))
                await heard(hears, "two", heard_then)
                await tells.until_idle()
            await tells.request("subscriber.remove", "teller", "two")
            await tells.send(Tell(id="k", numbers=[2]))
            await tells.until_idle()
            tells.advance(RETAIN_S + 1)
            await tells.runtime._janitor.trim(stream)
    assert audit(tmp_path / "b") == []


async def test_a_hosted_subscriber_is_not_removed(tmp_path: Path) -> None:
    async with hosting(teller(), listener("one"), data=tmp_path) as harness:
        with pytest.raises(Refused, match="one is hosted here"):
            await harness.request("subscriber.remove", "teller", "one")
        said = await harness.request("subscriber.remove", "teller", "nobody")
        assert said == "nobody did not subscribe to the events of teller"
        await harness.send(Tell(id="k", numbers=[1]))
        await heard(harness, "one", "1")


async def test_an_operator_sees_who_subscribes_and_asks_for_the_removal(tmp_path: Path) -> None:
    async with hosting(teller(), listener("one"), data=tmp_path) as harness:
        await harness.until_idle()
        with Monitor(tmp_path) as monitor:
            (found,) = monitor.subscribers()
        assert (found.name, found.publisher, found.kept) == ("one", "teller", 0)
        with pytest.raises(NotFound, match="no participant"):
            operate.remove_subscriber(tmp_path, "one", "tellers", reason="gone")
        (request,) = operate.remove_subscriber(tmp_path, "ghost", "teller", reason="gone")
        assert (request.kind, request.participant, request.target) == (
            "subscriber.remove",
            "teller",
            "ghost",
        )
        assert await log(harness, "one") == []
