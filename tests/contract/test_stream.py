"""What every broker does for outboxd, and what it does when it is hurt: memory and real servers."""

from __future__ import annotations

import random

import anyio
import pytest

from outboxd.stream import Entry, Marker, NoGroup, Position, id_order
from tests.contract.brokers import MARK, Broker, bodies, ids, publish, read, until

pytestmark = pytest.mark.anyio


async def test_entries_come_in_the_order_published_and_streams_do_not_mix(broker: Broker) -> None:
    stream = broker.stream
    for name in ("a", "b"):
        await stream.ensure(name, "g")
    batch = [("ab"[at % 2], b"%d" % at) for at in range(100)]
    await stream.publish("sender", batch, MARK, [])
    await stream.publish("sender", [("a", b"100")], MARK, [])
    await stream.publish("sender", [("a", b"102"), ("a", b"104")], MARK, [])
    assert bodies(await read(stream, "a")) == [b"%d" % at for at in range(0, 106, 2)]
    assert bodies(await read(stream, "b")) == [b"%d" % at for at in range(1, 100, 2)]


async def test_any_bytes_come_back_as_they_went(broker: Broker) -> None:
    bodies_in = [b'{"a":1}', b"\x00\xff\r\n", "ä€".encode(), b"x" * 300_000]
    await broker.stream.ensure("s", "g")
    await publish(broker.stream, "s", *bodies_in)
    assert bodies(await read(broker.stream, "s")) == bodies_in


async def test_a_group_sees_what_was_there_before_it(broker: Broker) -> None:
    await publish(broker.stream, "s", b"early")
    assert await broker.stream.ensure("s", "g") is True
    assert await broker.stream.ensure("s", "g") is False
    assert bodies(await read(broker.stream, "s")) == [b"early"]


async def test_each_group_reads_everything_and_two_consumers_share(broker: Broker) -> None:
    stream = broker.stream
    await stream.ensure("s", "g")
    await stream.ensure("s", "other")
    await publish(stream, "s", b"1", b"2", b"3")
    first = await read(stream, "s", count=2)
    second = await read(stream, "s", consumer="d")
    assert bodies(first + second) == [b"1", b"2", b"3"]
    assert len(await stream.read("s", "other", "c", count=9, block_s=None)) == 3


async def test_a_blocked_read_is_woken_once_with_the_whole_batch(broker: Broker) -> None:
    stream = broker.stream
    sizes: list[int] = []
    await stream.ensure("s", "g")

    async def reader() -> None:
        while sum(sizes) < 100:
            sizes.append(len(await stream.read("s", "g", "c", count=200, block_s=5)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await until_blocked(broker)
        await publish(stream, "s", *[b"x"] * 100)
    assert sizes == [100]


async def test_a_blocked_read_ends_empty_when_its_time_is_up(broker: Broker) -> None:
    await broker.stream.ensure("s", "g")
    assert await broker.stream.read("s", "g", "c", count=1, block_s=0.05) == []


async def test_own_pending_entries_are_read_again_page_by_page(broker: Broker) -> None:
    stream = broker.stream
    await stream.ensure("s", "g")
    await publish(stream, "s", *[b"%d" % at for at in range(25)])
    taken = await read(stream, "s")
    await stream.ack("s", "g", ids(taken)[:5], "g", {})
    again, after = [], b"0"
    while page := await read(stream, "s", count=8, own=after):
        again += page
        after = page[-1].id
    assert again == taken[5:]
    assert await read(stream, "s", consumer="stranger", own=b"0") == []


async def test_cancelled_reads_lose_nothing(broker: Broker) -> None:
    stream, seen = broker.stream, set[bytes | None]()
    await stream.ensure("s", "g")
    for at in range(100):

        async def reader(cancelled: anyio.CancelScope) -> None:
            with cancelled:
                seen.update(bodies(await stream.read("s", "g", "c", count=9, block_s=1)))

        scope = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader, scope)
            tasks.start_soon(publish, stream, "s", b"%d" % at)
            for _ in range(at % 7):
                await anyio.lowlevel.checkpoint()
            scope.cancel()

    async def all_seen() -> bool:
        # A cancelled read may reach the server after the look at what is pending.
        seen.update(bodies(await read(stream, "s", own=b"0")))
        seen.update(bodies(await read(stream, "s")))
        return seen == {b"%d" % at for at in range(100)}

    await until(all_seen, "every entry is received or pending")


async def test_acked_entries_are_no_longer_pending(broker: Broker) -> None:
    stream = broker.stream
    await stream.ensure("s", "g")
    await publish(stream, "s", b"1", b"2")
    taken = await read(stream, "s")
    await stream.ack("s", "g", ids(taken), "g", {"sender:in": "1:2"})
    assert (await stream.position("s", "g")).pending == 0
    assert await read(stream, "s", own=b"0") == []


async def test_the_accepted_numbers_come_back_with_a_publish(broker: Broker) -> None:
    stream = broker.stream
    await stream.ack("s", "g", [], "g", {"sender:in": "3:17", "sender:events": "3:4:hole"})
    watch = [("g", "sender:in"), ("g", "sender:events"), ("g", "unknown"), ("nobody", "x")]
    done = await stream.publish("sender", [("s", b"1")], MARK, watch)
    assert done.accepted == {
        ("g", "sender:in"): (3, 17, False),
        ("g", "sender:events"): (3, 4, True),
    }
    assert await stream.accepted("g") == {
        "sender:in": (3, 17, False),
        "sender:events": (3, 4, True),
    }
    assert await stream.accepted("nobody") == {}


async def test_a_publish_tells_what_the_broker_knew_before(broker: Broker) -> None:
    stream = broker.stream
    marks = [Marker("store-1", 1, 10), Marker("store-1", 1, 20), Marker("store-2", 2, 5)]
    assert await stream.marker("sender") is None
    told = [(await stream.publish("sender", [("s", b"1")], mark, [])).marker for mark in marks]
    assert told == [None, *marks[:2]]
    assert await stream.marker("sender") == marks[2]
    await broker.flush()
    assert await stream.marker("sender") is None
    assert (await stream.publish("sender", [], marks[0], [])).marker is None


async def test_a_lost_group_is_reported_and_heals(broker: Broker) -> None:
    stream = broker.stream
    with pytest.raises(NoGroup):
        await read(stream, "s")
    await stream.ensure("s", "g")
    await publish(stream, "s", b"1")
    await read(stream, "s")
    for lose in (broker.destroy("s", "g"), broker.flush()):
        await lose
        with pytest.raises(NoGroup):
            await read(stream, "s")
        with pytest.raises(NoGroup):
            await read(stream, "s", own=b"0")
        with pytest.raises(NoGroup):
            await stream.claim("s", "g", "c", min_idle_s=0, cursor=b"0-0", count=1)
        assert await stream.ensure("s", "g") is True
    await publish(stream, "s", b"2")
    assert bodies(await read(stream, "s")) == [b"2"]


@pytest.mark.parametrize("how", ["flush", "destroy"])
async def test_a_blocked_read_notices_at_once_that_its_group_is_gone(
    broker: Broker, how: str
) -> None:
    await broker.stream.ensure("s", "g")

    async def reader() -> None:
        with pytest.raises(NoGroup):
            await broker.stream.read("s", "g", "c", count=1, block_s=30)

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await until_blocked(broker)
            await (broker.flush() if how == "flush" else broker.destroy("s", "g"))


async def test_a_body_removed_while_pending_is_a_loss_not_an_empty_message(broker: Broker) -> None:
    stream = broker.stream
    await stream.ensure("s", "g")
    await publish(stream, "s", b"1", b"2", b"3")
    taken = await read(stream, "s")
    await broker.remove("s", taken[1].id)
    assert bodies(await read(stream, "s", own=b"0")) == [b"1", None, b"3"]
    claimed = await stream.claim("s", "g", "d", min_idle_s=0, cursor=b"0-0", count=10)
    assert (bodies(claimed.entries), claimed.lost) == ([b"1", b"3"], [taken[1].id])
    assert (await stream.position("s", "g")).pending == 2


async def test_claims_reach_the_tail_behind_many_fresh_entries(broker: Broker) -> None:
    stream, idle_s = broker.stream, 0.4
    await stream.ensure("s", "g")
    await publish(stream, "s", *[b"%d" % at for at in range(150)])
    await read(stream, "s")
    await broker.let_idle("s", "g", 150, idle_s)
    await read(stream, "s", count=125, own=b"0")  # a new delivery: no longer idle
    found: list[Entry] = []
    cursor, pages = b"0-0", 0
    while pages == 0 or cursor != b"0-0":
        page = await stream.claim("s", "g", "d", min_idle_s=idle_s, cursor=cursor, count=10)
        found, cursor, pages = found + page.entries, page.cursor, pages + 1
    assert bodies(found) == [b"%d" % at for at in range(125, 150)]
    assert pages > 2
    assert await read(stream, "s", consumer="d", own=b"0") == found


@pytest.mark.parametrize("seed", range(3))
async def test_trimming_removes_nothing_that_a_group_has_not_acked(
    broker: Broker, seed: int
) -> None:
    stream, chance = broker.stream, random.Random(seed)
    groups = {name: set[bytes]() for name in ("g", "h")}
    for name in groups:
        await stream.ensure("s", name)
    published, removed = 0, 0
    for _ in range(30):
        fresh = chance.randrange(60)
        await publish(stream, "s", *[b"%d" % at for at in range(published, published + fresh)])
        published += fresh
        for name, acked in groups.items():
            count = chance.randrange(1, 80)
            await stream.read("s", name, "c", count=count, block_s=None)
            own = await stream.read("s", name, "c", count=1000, block_s=None, own=b"0")
            assert all(entry.body is not None for entry in own)
            done = own if chance.random() < 0.4 else chance.sample(own, len(own) * 9 // 10)
            await stream.ack("s", name, ids(done), name, {})
            acked.update(entry.body for entry in done if entry.body)
        removed += await stream.trim("s")
    for name, acked in groups.items():
        own = await stream.read("s", name, "c", count=9999, block_s=None, own=b"0")
        new = await stream.read("s", name, "c", count=9999, block_s=None)
        held = {entry.body for entry in own + new}
        assert held == {b"%d" % at for at in range(published)} - acked
    assert removed > 0


async def test_trimming_keeps_what_is_younger_than_the_retention(broker: Broker) -> None:
    stream = broker.stream
    await publish(stream, "s", *[b"x"] * 500)
    assert await stream.trim("s") == 0  # no group: nobody has said that it is done with
    await stream.ensure("s", "g")
    entries = await read(stream, "s")
    await stream.ack("s", "g", ids(entries), "g", {})
    assert await stream.trim("s", keep_after=entries[0].id) == 0
    removed = await stream.trim("s", keep_after=entries[250].id)
    assert 0 < removed <= 250
    assert (await stream.position("s", "g")).length == 500 - removed
    await broker.destroy("s", "g")
    assert await stream.trim("s", keep_after=entries[-1].id) > 0
    assert await stream.trim("absent") == 0


async def test_the_position_of_a_group_and_of_nothing(broker: Broker) -> None:
    stream = broker.stream
    assert await stream.position("s", "g") == Position(b"0-0", None, 0, 0, None, False)
    assert await stream.last_id("s") == b"0-0"
    await stream.ensure("s", "g")
    await publish(stream, "s", b"1", b"2", b"3")
    first, second = await read(stream, "s", count=2)
    await stream.ack("s", "g", [first.id], "g", {})
    last = await stream.last_id("s")
    assert id_order(last) > id_order(second.id)
    assert await stream.position("s", "g") == Position(last, second.id, 1, 3, 1, True)
    assert await stream.position("s", "h") == Position(last, None, 0, 3, None, False)


async def test_a_refused_stream_does_not_hold_up_the_others(broker: Broker) -> None:
    stream = broker.stream
    await broker.refuse("bad")
    await stream.ensure("good", "g")
    batch = [("bad", b"0"), ("good", b"1"), ("bad", b"2"), ("good", b"3"), ("bad", b"4")]
    for _ in range(2):
        done = await stream.publish("sender", batch, MARK, [])
        assert list(done.failed) == [0, 2, 4]
        assert done.failed[0].startswith("WRONGTYPE")
    assert bodies(await read(stream, "good")) == [b"1", b"3"] * 2
    assert await stream.marker("sender") == MARK


async def test_a_dropped_group_holds_nothing_back(broker: Broker) -> None:
    stream = broker.stream
    await stream.drop_group("nowhere", "g")
    await stream.ensure("s", "g")
    await stream.ensure("s", "gone")
    await stream.publish("sender", [("s", b"1"), ("s", b"2")], MARK, [])
    found = await read(stream, "s")
    await stream.ack("s", "g", [entry.id for entry in found], "g", {})
    await stream.drop_group("s", "gone")
    await stream.drop_group("s", "gone")
    assert not (await stream.position("s", "gone")).group_exists
    assert (await stream.position("s", "g")).group_exists
    assert await stream.ensure("s", "gone")


async def test_who_hosts_a_participant_is_said_and_taken_back(broker: Broker) -> None:
    stream = broker.stream
    await stream.set_tenants({"one": "a 1", "two": "b 1"})
    await stream.set_tenants({"one": "a 2"})
    assert await stream.tenants(["one", "two", "three"]) == {"one": "a 2", "two": "b 1"}
    await stream.set_tenants({"one": None, "three": None})
    assert await stream.tenants(["one", "two", "three"]) == {"two": "b 1"}
    assert await stream.tenants([]) == {}


async def until_blocked(broker: Broker) -> None:
    """A read of the stream waits at the broker."""
    server = getattr(broker, "server", None)
    if server is None:
        await anyio.wait_all_tasks_blocked()
        return

    async def is_blocked() -> bool:
        return b"blocked_clients:1\r" in await server.tell("INFO", "clients")

    await until(is_blocked, "a blocked client")
