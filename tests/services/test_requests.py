"""Operators' requests: each applied once, in its participant's transaction, or refused with why."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import Cancelled, Command, Event, Participant, Refused, Saga, Tx
from outboxd.store import control
from outboxd.store.connection import Connection
from outboxd.store.control import Request
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    LOG,
    Act,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
    hosting,
    log,
    until_step,
    write,
)

pytestmark = pytest.mark.anyio


class Bell(Event, source="worker", key="id"):
    """Rung from outside."""

    id: str


def calling(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id), undo=Unact(id=go.id))


async def still_works(harness: Harness) -> None:
    """The runtime lives, and takes further requests."""
    await harness.send(Do(id="after", step="all"))
    await wait_until(lambda: log(harness, "worker", "after"))


async def test_a_request_that_is_found_twice_is_applied_once(cast: Cast, tmp_path: Path) -> None:
    """As after a crash between the participant's commit and the mark in control.db."""
    request = Request(
        id="op-1",
        at=0.0,
        kind="send",
        participant="worker",
        target="Do",
        args=b'{"id": "m-1", "data": {"id": "1", "step": "a"}}',
        who="test",
    )

    def again(connection: Connection) -> None:
        connection.execute("DELETE FROM request")
        control.add_request(connection, request)

    async with hosting(*cast.participants, data=tmp_path) as harness:
        for _ in range(3):
            await harness.runtime.control.write(again)
            await wait_until(lambda: is_applied(harness, "op-1"))
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a"]
        sql = "SELECT id, kind, target, who FROM outboxd_applied"
        assert await harness.rows("worker", sql) == [("op-1", "send", "Do", "test")]


async def is_applied(harness: Harness, request_id: str) -> bool:
    found = await harness.runtime.control.read(lambda cx: control.get(cx, request_id))
    return found is not None and found.state == "applied"


async def test_a_cancellation_that_the_saga_s_code_fails_on_stops_nobody_else(
    cast: Cast, tmp_path: Path
) -> None:
    """The bug shows in the saga; the runtime goes on, and so do the requests."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            return await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        except Cancelled:
            raise RuntimeError("a bug on the way out") from None

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
        with pytest.raises(Refused, match="a bug on the way out"):
            await harness.cancel(handle.id)
        await still_works(harness)
        gate.open.set()
        assert await handle.result() == "act x"


async def test_a_cancellation_whose_local_undo_fails_stops_nobody_else(
    cast: Cast, tmp_path: Path
) -> None:
    def put_back(tx: Tx, id: str) -> None:
        raise RuntimeError("a bug in an undo")

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        saga.undo(put_back, go.id)
        await saga.sleep("1h")
        return "awake"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await until_step(harness, handle.id, "sleep 3600s")
        with pytest.raises(Refused, match="a bug in an undo"):
            await harness.cancel(handle.id)
        await still_works(harness)
        await harness.request("saga.kill", "desk", handle.id)
        with pytest.raises(Cancelled):
            await handle.result()


async def test_a_saga_whose_code_changed_can_only_be_killed(cast: Cast, tmp_path: Path) -> None:
    calling(cast)
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path, drain_s=0.05) as harness:
        handle = await harness.start(Go(id="1"))
        await gate.reached.wait()
    other = Cast()

    @other.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id), undo=Undo(id=go.id))

    async with hosting(*other.participants, data=tmp_path, clock=harness.clock) as harness:
        await harness.until_saga(handle.id, "stuck: code changed")
        with pytest.raises(Refused, match="the journal has call Act"):
            await harness.cancel(handle.id)
        await still_works(harness)
        await harness.request("saga.kill", "desk", handle.id)
        assert (await harness.saga(handle.id)).state == "cancelled"


async def test_nonsense_is_refused_and_stops_nobody(cast: Cast, tmp_path: Path) -> None:
    calling(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        for kind, target, args in (
            ("saga.cancel", "desk/trip/none", {}),
            ("saga.retry", "", {}),
            ("saga.fly", "desk/trip/1", {}),
            ("dead.replay", "", {}),
            ("dead.replay", "", {"letters": ["one"]}),
            ("dead.replay", "", {"letters": [99]}),
            ("send", "Go", []),
            ("send", "Go", {"id": "m-1", "data": {"id": 7}}),
            ("send", "Go", {"id": "m-1", "data": {"id": "x" * 300_000}}),
            ("send", "Nothing", {"id": "m-1", "data": {}}),
        ):
            with pytest.raises(Refused):
                await harness.request(kind, "desk", target, args)
        await still_works(harness)


async def test_an_event_is_sent_through_its_publisher(cast: Cast, tmp_path: Path) -> None:
    listener = Participant("listener", schema=LOG)

    @listener.handle
    def on_bell(tx: Tx, event: Bell) -> None:
        write(tx, event.id, "heard")

    async with hosting(cast.worker, listener, data=tmp_path) as harness:
        await harness.request("send", "worker", "Bell", {"id": "e-1", "data": {"id": "1"}})
        await wait_until(lambda: log(harness, "listener"))
        assert await log(harness, "listener") == ["heard"]


class Blank(Command[None], to="worker"):
    """Has no key."""

    word: str


async def test_messages_without_a_key_keep_no_order_and_hold_up_nobody(
    tmp_path: Path,
) -> None:
    worker = Participant("worker", schema=LOG)

    @worker.handle
    def blank(tx: Tx, cmd: Blank) -> None:
        if cmd.word == "bad" and tx.attempt < 3:
            raise RuntimeError("not yet")
        write(tx, cmd.word, cmd.word)

    async with hosting(worker, data=tmp_path, chance=lambda: 1.0) as harness:
        await harness.send_all(Blank(word="bad"), *[Blank(word=str(n)) for n in range(9)])
        await wait_until(lambda: have_logged(harness, 9))
        assert "bad" not in await log(harness, "worker")
        harness.advance(2)
        await wait_until(lambda: have_logged(harness, 10))


async def have_logged(harness: Harness, count: int) -> bool:
    return len(await log(harness, "worker")) == count
