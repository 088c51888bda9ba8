"""A paused participant takes nothing, keeps everything, and goes on where it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest

from outboxd import Retry, Saga, Tx
from outboxd.monitor import Monitor, Why
from outboxd.store import control
from outboxd.testing import Harness, wait_until
from tests.promises.cast import Act, Cast, Do, Go, Undo, hosting, log, until_step

pytestmark = pytest.mark.anyio

CALL = "desk/trip/1"


def one_call(cast: Cast) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id), undo=Undo(id=go.id))


async def paused(harness: Harness, name: str = "worker") -> None:
    """From the moment on at which it is said to be paused."""
    assert await harness.request("participant.pause", name, name, reason="closed") == "paused"


async def resumed(harness: Harness, name: str = "worker") -> None:
    assert await harness.request("participant.resume", name, name) == "resumed"


async def why(harness: Harness, name: str) -> Why:
    def ask() -> Why:
        with Monitor(harness.data, harness.clock) as monitor:
            return monitor.why(name)

    return await anyio.to_thread.run_sync(ask)


async def test_it_reads_nothing_until_it_is_resumed(cast: Cast, tmp_path: Path) -> None:
    one_call(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await paused(harness)
        handle = await harness.start(Go(id="1"))
        await until_step(harness, CALL, "Do")

        async def is_said() -> Why | None:
            found = await why(harness, CALL)
            return found if any("has been paused for" in text for text in found.next) else None

        said = await wait_until(is_said)
        assert any(text.endswith("by test: closed") for text in said.next)
        assert "outboxd resume worker" in said.moves
        assert await log(harness, "worker") == []
        await resumed(harness)
        await handle.result()
        assert await log(harness, "worker") == ["do a"]


async def test_what_comes_into_the_read_that_was_under_way_is_kept(
    cast: Cast, tmp_path: Path
) -> None:
    """It was delivered, and nobody has taken it: after the pause it is not lost."""
    one_call(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        worker = harness.runtime.hosted["worker"].consumers["outboxd:{worker}:in"]
        await paused(harness)
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: worker.cut_at is not None, "the read has ended")
        await until_step(harness, CALL, "Do")
        assert await log(harness, "worker") == []
        await resumed(harness)
        await handle.result()
        assert await log(harness, "worker") == ["do a"]


async def test_deadlines_get_the_time_back(cast: Cast, tmp_path: Path) -> None:
    """The caller is paused as well as its receiver: an hour later the call is still answered."""
    one_call(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await paused(harness)
        handle = await harness.start(Go(id="1"))
        await until_step(harness, CALL, "Do")
        await paused(harness, "desk")
        harness.advance(3600)
        await resumed(harness)
        await resumed(harness, "desk")
        await handle.result()
        assert (await harness.saga(CALL)).state == "completed"


async def test_no_attempt_begins_meanwhile(cast: Cast, tmp_path: Path) -> None:
    one_call(cast)
    tries: list[str] = []

    def later(tx: Tx, cmd: Do) -> None:
        tries.append(cmd.id)
        if len(tries) == 1:
            raise Retry("closed", after=5)

    cast.on_do = later
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await wait_until(lambda: len(tries) == 1)
        await paused(harness)
        harness.advance(10)
        await harness.request(
            "participant.pause", "desk", "desk", reason="a round trip of the loop"
        )
        assert len(tries) == 1
        await resumed(harness, "desk")
        await resumed(harness)
        await handle.result()
        assert len(tries) == 2


async def test_what_is_sent_to_it_waits_and_other_requests_do_not(
    cast: Cast, tmp_path: Path
) -> None:
    one_call(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await paused(harness)
        asked = harness._sending(Do(id="9"), "m-9")
        await harness.runtime.control.write(lambda cx: control.add_request(cx, asked))
        again = await harness.request("participant.pause", "worker", "worker", reason="again")
        assert again == "worker was paused already, by test: closed"
        assert await harness.runtime.intake.has_requests()
        await resumed(harness)
        await wait_until(lambda: log(harness, "worker"), "what was sent is handled")


async def test_after_a_crash_no_suspect_begins_and_nobody_waits_for_it(
    cast: Cast, tmp_path: Path
) -> None:
    gate = cast.gate_effects()
    async with hosting(*cast.participants, data=tmp_path, drain_s=0) as harness:
        await harness.send(Act(id="1"))
        await gate.reached.wait()
        await paused(harness, "courier")
    with closing(sqlite3.connect(tmp_path / "courier.db")) as connection:
        connection.execute("UPDATE outboxd_meta SET value = 0 WHERE key = 'clean'")
        connection.commit()
    cast.mend()
    clock, stream = harness.clock, harness.stream
    async with hosting(*cast.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        for n in range(10):
            await harness.send(Do(id=str(n)))
        await wait_until(lambda: log(harness, "worker", "9"), "another one works")
        assert await log(harness, "courier") == []
        await resumed(harness, "courier")
        await wait_until(lambda: log(harness, "courier"), "the suspect has run")


async def test_a_pause_outlives_a_restart(cast: Cast, tmp_path: Path) -> None:
    one_call(cast)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await paused(harness)
    async with hosting(
        *cast.participants, data=tmp_path, stream=harness.stream, clock=harness.clock
    ) as harness:
        with Monitor(tmp_path, harness.clock) as monitor:
            [health] = [h for h in monitor.overview().participants if h.participant == "worker"]
        assert health.paused is not None
        assert health.paused.startswith("by test for ")
        handle = await harness.start(Go(id="1"))
        await until_step(harness, CALL, "Do")
        assert await log(harness, "worker") == []
        await resumed(harness)
        await handle.result()
        assert await harness.request("participant.resume", "worker", "worker") == (
            "worker was not paused"
        )
