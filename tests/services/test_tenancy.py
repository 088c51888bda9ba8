"""A copy of a data directory beside the original, on one broker: refused, whoever comes when."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import anyio
import pytest

from outboxd import Saga, tenancy
from outboxd.errors import Refused
from outboxd.memory_stream import MemoryStream
from outboxd.tenancy import WATCH_S, Tenancy
from outboxd.testing import FakeClock, FaultyStream, running, wait_until
from tests.promises.cast import Cast, Do, Go, new_stream

pytestmark = pytest.mark.anyio

NAMES = ["desk", "worker"]


def a_cast() -> Cast:
    cast = Cast()

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id))

    return cast


async def test_a_copy_of_a_data_directory_is_refused_while_the_original_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    stream = new_stream(clock)
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with running(*a_cast().participants, data=data, stream=stream, clock=clock) as harness:
        await (await harness.start(Go(id="1"))).result()
        await harness.until_idle()
        shutil.copytree(data, copy)
        with pytest.raises(Refused, match="from a copy of this data directory"):
            async with running(*a_cast().participants, data=copy, stream=stream, clock=clock):
                pass
        assert await (await harness.start(Go(id="2"))).result() == "do a"
    # The original has ended: a copy may take its place, at once.
    monkeypatch.setattr(tenancy, "WATCH_S", 3600.0)
    with anyio.fail_after(30):
        async with running(
            *a_cast().participants, data=copy, stream=stream, clock=clock
        ) as harness:
            assert harness.runtime.progress().started >= 1


@pytest.fixture
def stream() -> FaultyStream:
    return FaultyStream(MemoryStream(FakeClock()))


def a_pid_of_the_past() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


async def test_what_a_killed_process_has_said_is_passed_at_once(
    stream: FaultyStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenancy, "BEAT_S", 3600.0)
    monkeypatch.setattr(tenancy, "WATCH_S", 3600.0)
    await stream.set_tenants({"desk": f"{tenancy._place()} {a_pid_of_the_past()} abc 7"})
    with anyio.fail_after(30):
        await Tenancy(NAMES).take(stream)


async def test_what_stands_still_elsewhere_is_passed_after_a_moment(stream: FaultyStream) -> None:
    await stream.set_tenants({"desk": "another/machine 1 abc 7"})
    began = anyio.current_time()
    with anyio.fail_after(30):
        await Tenancy(NAMES).take(stream)
    assert anyio.current_time() - began >= WATCH_S
    said = (await stream.tenants(["desk"]))["desk"]
    assert f" {os.getpid()} " in said


async def test_who_was_asleep_gives_way_to_who_has_come(
    stream: FaultyStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenancy, "BEAT_S", 0.05)
    monkeypatch.setattr(tenancy, "WATCH_S", 0.3)
    sleeper, comer = Tenancy(NAMES), Tenancy(NAMES)
    await sleeper.take(stream)
    await comer.take(stream)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(comer.run, stream)
        with pytest.raises(Refused, match="another process hosts"), anyio.fail_after(30):
            await sleeper.run(stream)
        tasks.cancel_scope.cancel()


async def test_a_broker_that_forgets_or_remembers_too_much_ends_nobody(
    stream: FaultyStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenancy, "BEAT_S", 0.05)
    monkeypatch.setattr(tenancy, "WATCH_S", 0.3)
    tenant = Tenancy(NAMES)
    await tenant.take(stream)

    async def is_said() -> bool:
        said = await stream.tenants(NAMES)
        return all(tenant._is_mine(said.get(name)) for name in NAMES)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tenant.run, stream)
        await stream.forget()
        await wait_until(is_said)
        await stream.set_tenants({"desk": "an/older 1 abc 7"})  # a stale replica took over
        await wait_until(is_said)
        tasks.cancel_scope.cancel()
    await tenant.leave(stream)
    assert await stream.tenants(NAMES) == {}
