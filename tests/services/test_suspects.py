"""After an unclean stop: a suspect that hangs outside does not stop everything for ever."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from outboxd import Context, Saga, quarantine
from outboxd.testing import FakeClock
from tests.promises.cast import Act, Cast, Go, hosting, log, new_stream

pytestmark = pytest.mark.anyio


async def test_a_slow_suspect_is_not_waited_for_beyond_the_quarantine(
    cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "LIMIT_S", 0.4)
    monkeypatch.setattr(quarantine, "LEAST_S", 0.1)

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Act(id=go.id))

    clock = FakeClock()
    stream = new_stream(clock)
    gate = cast.gate_effects()
    async with hosting(
        *cast.participants, data=tmp_path, clock=clock, stream=stream, drain_s=0.0
    ) as harness:
        for key in ("slow", "also slow"):
            await harness.start(Go(id=key))
        await gate.reached.wait()
    for name in ("desk", "courier"):
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as connection:
            connection.execute("UPDATE outboxd_meta SET value = 0 WHERE key = 'clean'")
            connection.commit()

    hangs = anyio.Event()

    async def slow(ctx: Context, cmd: Act) -> None:
        if cmd.id != "quick":
            await hangs.wait()

    cast.on_act = slow
    async with hosting(*cast.participants, data=tmp_path, clock=clock, stream=stream) as harness:
        assert await (await harness.start(Go(id="quick"))).result() == "act x"
        assert await log(harness, "courier") == ["act x"]
        assert harness.runtime.in_hand == 2
        hangs.set()
        for key in ("slow", "also slow"):
            await harness.until_saga(f"desk/trip/{key}", "completed")
