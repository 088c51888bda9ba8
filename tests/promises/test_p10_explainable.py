"""P10: ``why`` says what waits, for whom, since when, what comes next, and what would move it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from outboxd import Command, Retry, Saga, Tx
from outboxd.message import in_stream
from outboxd.monitor import Monitor, Why
from outboxd.testing import Harness, wait_until
from tests.promises.cast import Act, Cast, Do, Go, Unact, Undo, hosting, until_step

pytestmark = pytest.mark.anyio

WORKER = in_stream("worker")


class Start(Command[None], to="desk", key="id"):
    """Starts another saga."""

    id: str


async def why(harness: Harness, name: str) -> Why:
    """What the files say, as another process would read them."""

    def ask() -> Why:
        with Monitor(harness.data, harness.clock) as monitor:
            return monitor.why(name)

    return await anyio.to_thread.run_sync(ask)


async def until_said(harness: Harness, name: str, words: str) -> Why:
    async def is_said() -> Why | None:
        found = await why(harness, name)
        return found if any(words in line for line in found.waits_for) else None

    return await wait_until(is_said, f"why {name} says {words!r}")


def one_call(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id), undo=Undo(id=go.id))


def one_effect(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id), undo=Unact(id=go.id))


async def test_a_message_that_is_still_on_its_way(cast: Cast, tmp_path: Path) -> None:
    one_call(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(WORKER)
        await harness.start(Go(id="1"))
        await until_step(harness, "desk/trip/1", "Do")
        harness.advance(20)
        said = await until_said(harness, "desk/trip/1", "is in the outbox of desk")
        assert said.waits_for[0].startswith("for worker: Do (desk/trip/1#1)")
        assert "its deadline is in 40s" in said.waits_for[0]
        assert said.moves[0] == "outboxd saga cancel desk/trip/1"
        said = await why(harness, "desk/trip/1#1")
        assert said.waits_for[0].startswith(f"for {WORKER}: in the outbox of desk for 20")
        harness.stream.release(WORKER)


async def test_a_message_that_is_tried_again(cast: Cast, tmp_path: Path) -> None:
    one_call(cast)

    def later(tx: Tx, cmd: Do) -> None:
        raise Retry("the bank is closed", after=30)

    cast.on_do = later
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="1"))
        said = await until_said(harness, "1", "failed there once")
        assert "is tried again in 30s: Retry: the bank is closed" in said.waits_for[0]
        await harness.send(Do(id="1", step="other"), "m-1")
        said = await why(harness, "desk/trip/1#1")
        assert said.waits_for[0].startswith("for worker: it failed there once")


async def test_a_message_behind_another_of_its_key(cast: Cast, tmp_path: Path) -> None:
    one_effect(cast)

    @cast.desk.saga
    async def other(saga: Saga, do: Start) -> None:
        await saga.call(Act(id=do.id, step="first"))

    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Start(id="1"))
        await gate.reached.wait()
        harness.advance(10)
        said = await until_said(harness, "desk/other/1", "has run there for 10s, attempt 1")
        await harness.start(Go(id="1"))
        said = await until_said(harness, "desk/trip/1", "behind Act (desk/other/1#1)")
        assert said.moves[0] == "outboxd saga cancel desk/trip/1"
        gate.open.set()
        await harness.until_saga("desk/trip/1", "completed")


async def test_a_dead_letter_names_its_saga_and_the_saga_its_letter(
    cast: Cast, tmp_path: Path
) -> None:
    one_call(cast)
    cast.break_step("a")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="1"))
        await harness.until_saga("desk/trip/1", "stuck: letter")
        said = await why(harness, "d-1")
        assert "for a person" in said.waits_for[0]
        assert "RuntimeError: step a is broken" in said.waits_for[0]
        assert said.waits_for[1] == "the saga desk/trip/1 waits for it"
        letter = said.moves[0].rpartition(" ")[2]
        said = await why(harness, "desk/trip/1")
        assert "has been dead letter" in said.waits_for[0]
        assert said.moves == (
            f"outboxd dead replay {letter}",
            f"outboxd dead discard {letter}",
            "outboxd saga skip desk/trip/1",
            "outboxd saga cancel desk/trip/1",
            "outboxd saga resolve desk/trip/1 completed",
            "outboxd saga resolve desk/trip/1 compensated",
            "outboxd saga kill desk/trip/1",
        )


async def test_every_named_command_is_accepted(cast: Cast, tmp_path: Path) -> None:
    """Of a saga stuck by a bug: retry, cancel and kill; what is not named would be refused."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        raise RuntimeError("a bug")

    async with hosting(*cast.participants, data=tmp_path) as harness:
        for kind in ("retry", "cancel", "kill"):
            await harness.start(Go(id=kind))
            await harness.until_saga(f"desk/trip/{kind}", "stuck: bug")
            said = await why(harness, f"desk/trip/{kind}")
            assert said.waits_for == ("for a person: its code failed: RuntimeError: a bug",)
            assert f"outboxd saga {kind} desk/trip/{kind}" in said.moves
            await harness.request(f"saga.{kind}", "desk", f"desk/trip/{kind}")


async def test_a_sleep_and_an_undo(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        await saga.sleep("2h")
        saga.fail("no more")

    gate = cast.gate_effects(undo=True)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="1"))
        said = await until_said(harness, "desk/trip/1", "it sleeps")
        assert said.waits_for == ("for time to pass: it sleeps and wakes in 2h",)
        harness.advance(7200)
        await gate.reached.wait()
        said = await until_said(harness, "desk/trip/1", "has run there")
        assert said.state == "compensating"
        assert said.waits_for[0].startswith("for courier: Unact (desk/trip/1#1~undo)")
        assert said.moves == ("outboxd saga kill desk/trip/1",)
        gate.open.set()


async def test_a_delayed_message_says_when(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.send(Do(id=go.id), delay="3h")
        return "sent"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await (await harness.start(Go(id="1"))).result()
        [message_id] = await harness.column("desk", "SELECT id FROM outboxd_delayed")
        said = await why(harness, message_id)
        assert said.waits_for == (f"for its time: desk sends it to {WORKER} in 3h",)


async def test_what_waits_is_explained_at_every_moment(cast: Cast, tmp_path: Path) -> None:
    """From its start to its end there is always an answer."""
    one_effect(cast)

    async def slowly(*_: Any) -> None:
        await anyio.lowlevel.checkpoint()

    cast.on_act = slowly
    async with hosting(*cast.participants, data=tmp_path) as harness:
        for n in range(20):
            handle = await harness.start(Go(id=str(n)))
            while (await harness.saga(handle.id)).ended_at is None:
                said = await why(harness, handle.id)
                assert said.waits_for or said.state == "completed"
