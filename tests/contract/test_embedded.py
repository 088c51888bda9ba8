"""The broker of the data directory: one server, whoever dies, and it starts whatever it finds."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from outboxd import embedded
from outboxd.embedded import Embedded
from outboxd.errors import ConfigError, Unavailable
from outboxd.redis_stream import RedisStream
from outboxd.wire import Wire
from tests.contract.brokers import answers, bodies, processes_in, publish, read, until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import sys, anyio
from pathlib import Path
from outboxd.embedded import Embedded
from outboxd.redis_stream import RedisStream
from outboxd.stream import Marker

async def main():
    stream = RedisStream(await Embedded(Path(sys.argv[1])).start())
    await stream.ensure("s", "g")
    await stream.publish("sender", [("s", b"before")], Marker("store", 1, 1), [])
    print("up", flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.fixture(autouse=True)
def its_server(binary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_candidates", lambda: iter([binary]))


@pytest.fixture
async def broker(folder: Path, anyio_backend: str) -> AsyncIterator[Embedded]:
    # "everysec" holds back acked writes while a sync is under way; a kill would lose them.
    broker = Embedded(folder, appendfsync="always")
    yield broker
    await broker.stop()


def start_and_be_killed(folder: Path) -> None:
    """An outboxd that starts its broker, publishes, and is killed."""
    command = [sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        parent.kill()


def start_by_hand(binary: str, place: Path) -> subprocess.Popen[bytes]:
    command = [binary, "--port", "0", "--unixsocket", "sock", "--pidfile", "pid"]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)


async def filled(url: str, *names: bytes) -> None:
    """A stream with these entries, acked by nobody."""
    stream = RedisStream(url)
    await stream.ensure("s", "g")
    await publish(stream, "s", *names)
    await stream.aclose()


async def held(url: str) -> list[bytes | None]:
    """What the stream still has."""
    stream = RedisStream(url)
    await stream.ensure("s", "g")
    entries = await read(stream, "s", own=b"0") + await read(stream, "s")
    await stream.aclose()
    return bodies(entries)


def pid_of(broker: Embedded) -> int:
    return int((broker.dir / "pid").read_text())


async def ask(url: str, *command: bytes) -> object:
    wire = Wire(url, connections=1)
    try:
        return await wire.ask(*command)
    finally:
        await wire.aclose()


async def test_it_starts_is_private_and_ends(folder: Path, broker: Embedded) -> None:
    url = await broker.start()
    assert url == f"unix://{folder}/broker/sock"
    for path in (broker.dir, broker.dir / "sock"):
        assert path.stat().st_mode & 0o777 == 0o700
    stream = RedisStream(url)
    server = await stream.connect()
    assert (server.persistence, server.maxmemory_policy) == ("aof always", "noeviction")
    await stream.aclose()
    assert processes_in(folder) == [pid_of(broker)]
    assert os.getsid(pid_of(broker)) == pid_of(broker)
    await broker.stop()
    assert processes_in(folder) == []
    await broker.stop()


async def test_what_was_written_is_there_after_a_stop(broker: Embedded) -> None:
    for at in range(3):
        await filled(await broker.start(), b"%d" % at)
        await broker.stop()
    assert await held(await broker.start()) == [b"0", b"1", b"2"]


async def test_the_settings_reach_the_server(folder: Path) -> None:
    broker = Embedded(folder, maxmemory="64mb")
    url = await broker.start()
    memory = await ask(url, b"CONFIG", b"GET", b"maxmemory", b"appendfsync", b"save")
    assert memory == {b"maxmemory": b"67108864", b"appendfsync": b"everysec", b"save": b""}
    await broker.stop()


async def test_it_is_adopted_when_its_outboxd_was_killed(folder: Path, broker: Embedded) -> None:
    await to_thread.run_sync(start_and_be_killed, folder)
    orphan = pid_of(broker)
    assert await held(await broker.start()) == [b"before"]
    assert pid_of(broker) == orphan
    assert processes_in(folder) == [orphan]
    await broker.stop()
    assert processes_in(folder) == []


async def test_many_starts_at_once_make_one_server(folder: Path, broker: Embedded) -> None:
    others = [Embedded(folder) for _ in range(8)]
    async with anyio.create_task_group() as tasks:
        for other in (broker, *others):
            tasks.start_soon(other.start)
    assert processes_in(folder) == [pid_of(broker)]
    for other in others:
        await other.stop()
    assert processes_in(folder) == []


async def test_a_server_that_was_killed_is_started_again(broker: Embedded) -> None:
    await filled(await broker.start(), b"1")
    for _ in range(3):
        before = pid_of(broker)
        os.kill(before, signal.SIGKILL)
        assert await held(await broker.ensure()) == [b"1"]
        assert pid_of(broker) != before


async def test_ensure_leaves_a_living_server_alone(broker: Embedded) -> None:
    await broker.start()
    before = pid_of(broker)
    await broker.ensure()
    assert pid_of(broker) == before


async def test_an_adopted_server_that_died_is_started_again(folder: Path, broker: Embedded) -> None:
    first = Embedded(folder)
    await first.start()
    await broker.start()
    os.kill(pid_of(broker), signal.SIGKILL)
    await first.stop()
    await broker.ensure()
    assert processes_in(folder) == [pid_of(broker)]


async def test_a_frozen_server_is_reported_and_not_replaced(
    folder: Path, broker: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.start()
    pid = pid_of(broker)
    monkeypatch.setattr(embedded, "HUNG_S", 0.3)
    monkeypatch.setattr(embedded, "PROBE_S", 0.1)
    os.kill(pid, signal.SIGSTOP)
    for call in (broker.ensure, Embedded(folder).start):
        with anyio.fail_after(15), pytest.raises(Unavailable, match=f"process {pid}") as caught:
            await call()
        assert "kill the process" in str(caught.value.hint)
    assert processes_in(folder) == [pid]
    os.kill(pid, signal.SIGCONT)
    await broker.ensure()
    assert processes_in(folder) == [pid]


@pytest.mark.parametrize("is_adopted", [False, True])
async def test_a_server_that_does_not_stop_is_killed(
    folder: Path, broker: Embedded, monkeypatch: pytest.MonkeyPatch, is_adopted: bool
) -> None:
    await broker.start()
    last = broker
    if is_adopted:
        last = Embedded(folder)
        await last.start()
    monkeypatch.setattr(embedded, "STOP_S", 0.3)
    os.kill(pid_of(broker), signal.SIGSTOP)
    with anyio.fail_after(15):
        await last.stop()

    async def is_gone() -> bool:
        await broker.stop()  # its parent is this process: only it can take its leave
        return processes_in(folder) == []

    await until(is_gone, "no server")


@pytest.mark.parametrize("is_adopted", [False, True])
async def test_it_ends_by_itself_when_told_in_a_hurry(
    folder: Path, broker: Embedded, is_adopted: bool
) -> None:
    await filled(await broker.start(), b"1")
    last = broker
    if is_adopted:
        last = Embedded(folder)
        await last.start()
    last.terminate()

    async def is_gone() -> bool:
        return not broker._is_alive()

    await until(is_gone, "no server")
    assert await held(await broker.ensure()) == [b"1"]
    await last.stop()


async def test_a_server_started_by_hand_is_refused(folder: Path, binary: str) -> None:
    place = folder / "broker"
    place.mkdir()
    stranger = start_by_hand(binary, place)

    async def is_up() -> bool:
        return answers(place / "sock")

    await until(is_up, "the stranger answers")
    broker = Embedded(folder)
    with pytest.raises(ConfigError, match=f"process {stranger.pid}"):
        await broker.start()
    await broker.stop()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


async def test_stale_files_do_not_hinder(folder: Path, broker: Embedded) -> None:
    await broker.start()
    await broker.stop()
    (broker.dir / "sock").touch()
    (broker.dir / "pid").write_text(str(os.getpid()))
    (broker.dir / "lock").write_text("whoever")
    await broker.start()
    assert processes_in(folder) == [pid_of(broker)]


async def test_a_directory_with_a_long_and_odd_name_works(folder: Path) -> None:
    data = folder / ("long name " * 12) / 'with "quotes" # and %41 ü?'
    broker = Embedded(data, appendfsync="always")
    url = await broker.start()
    assert len(url) < 100
    await filled(url, b"1")
    os.kill(pid_of(broker), signal.SIGKILL)
    for stray in (broker._alias, broker._alias.parent):  # as a cleaner of old files does
        stray.unlink() if stray.is_symlink() else stray.rmdir()
    assert await held(await broker.ensure()) == [b"1"]
    await broker.stop()
    assert not broker._alias.parent.exists()


async def test_a_directory_that_is_taken_away_gets_a_new_server(
    folder: Path, broker: Embedded
) -> None:
    await filled(await broker.start(), b"1")
    broker.dir.rename(folder / "elsewhere")
    assert await held(await broker.ensure()) == []
    assert processes_in(folder) == [pid_of(broker)]


async def test_a_directory_that_cannot_be_used_is_told(folder: Path) -> None:
    (folder / "broker").write_text("a file")
    broker = Embedded(folder)
    with pytest.raises(Unavailable, match=f"{folder}/broker cannot be started"):
        await broker.start()
    await broker.stop()


async def test_it_can_be_stopped_when_its_directory_is_gone(folder: Path, broker: Embedded) -> None:
    await broker.start()
    broker.dir.rename(folder / "elsewhere")
    await broker.stop()
    assert processes_in(folder) == []


async def test_it_waits_until_the_data_is_read(
    broker: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(await broker.start(), *[b"x"] * 30_000)
    await broker.stop()
    slow = "key-load-delay 10\n"  # microseconds, and more; it answers after each 1024 entries
    monkeypatch.setattr(broker, "_conf", broker._conf + slow)
    told = []
    probe = broker._probe

    async def listening() -> dict[str, str] | None:
        info = await probe()
        told.append(info and info["loading"])
        return info

    monkeypatch.setattr(broker, "_probe", listening)
    assert len(await held(await broker.start())) == 1000
    assert "1" in told
    assert told[-1] == "0"


async def test_a_cut_tail_is_loaded_and_reported(
    broker: Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    await filled(await broker.start(), b"1")
    await filled(broker.url, b"2")
    await broker.stop()
    [tail] = broker.dir.glob("appendonlydir/*.incr.aof")
    os.truncate(tail, tail.read_bytes().rindex(b"XADD") + 20)
    with caplog.at_level(logging.WARNING):
        assert await held(await broker.start()) == [b"1"]
    assert "Truncating" in caplog.text


@pytest.mark.parametrize("damage", ["tail", "manifest", "missing"])
async def test_data_that_cannot_be_read_is_put_aside(
    broker: Embedded, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    await filled(await broker.start(), b"1")
    await broker.stop()
    [tail] = broker.dir.glob("appendonlydir/*.incr.aof")
    [manifest] = broker.dir.glob("appendonlydir/*.manifest")
    if damage == "tail":
        tail.write_bytes(tail.read_bytes() + b"\0" * 50)  # what a power cut leaves behind
    elif damage == "manifest":
        manifest.write_text("no manifest\n")
    else:
        tail.unlink()
    assert await held(await broker.start()) == []
    assert "broker_data_damaged" in caplog.text
    assert (broker.dir / "damaged").is_dir()
    await filled(broker.url, b"2")
    await broker.stop()
    assert await held(await broker.start()) == [b"2"]


async def test_a_wrong_setting_is_told_in_the_words_of_the_server(folder: Path) -> None:
    broker = Embedded(folder, maxmemory="plenty")
    with pytest.raises(ConfigError, match="maxmemory plenty"):
        await broker.start()
    await broker.stop()
    assert processes_in(folder) == []


async def test_without_a_server_to_run_it_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "valkey-server"
    broken.write_text("no program")
    broken.chmod(0o755)
    absent = str(folder / "absent")
    monkeypatch.setattr(embedded, "_candidates", lambda: iter(["/bin/true", absent, str(broken)]))
    broker = Embedded(folder)
    with pytest.raises(ConfigError, match=r"/bin/true: no server 7\.0") as caught:
        await broker.start()
    assert "--redis URL" in str(caught.value.hint)
    assert absent in caught.value.message
    await broker.stop()


async def test_a_server_that_ends_at_once_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "valkey-server"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "server v=9.9.9" || exit 3\n')
    broken.chmod(0o755)
    monkeypatch.setattr(embedded, "_candidates", lambda: iter([str(broken)]))
    broker = Embedded(folder)
    for _ in range(2):
        with pytest.raises(Unavailable, match="returncode 3"):
            await broker.ensure()
    await broker.stop()


def test_the_wheel_has_a_server_and_the_path_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert embedded.find_server().endswith("-server")
