"""A participant's database, real and in a file: bare for the tables, pumped for the writer lane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from outboxd.store.connection import Connection, Database, open_writer
from outboxd.store.schema import migrate_own


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A writer with outboxd's own tables; each statement commits by itself."""
    connection = open_writer(tmp_path / "payments.db")
    migrate_own(connection)
    yield connection
    connection.close()


@asynccontextmanager
async def pumped(path: Path) -> AsyncIterator[Database]:
    """A database whose pump runs; it has a table ``note`` for what tests write."""
    database = Database(path)
    await database.open()
    async with anyio.create_task_group() as pump:
        pump.start_soon(database.run)
        await database.write(lambda cx: cx.execute("CREATE TABLE note (text TEXT UNIQUE) STRICT"))
        yield database
        await database.close()
        pump.cancel_scope.cancel()


@pytest.fixture
async def database(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    async with pumped(tmp_path / "payments.db") as database:
        yield database
