"""A participant's database, real and in a file: bare for the tables, pumped for the writer lane."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from outboxd.store.connection import Connection, Database, open_writer
from outboxd.store.schema import migrate_own


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with outboxd's own tables, to be copied: making it costs syncs of the disk."""
    path = tmp_path_factory.mktemp("migrated") / "payments.db"
    connection = open_writer(path)
    connection.execute("BEGIN")
    migrate_own(connection)
    connection.execute("COMMIT")
    connection.close()
    return path


@pytest.fixture
def connection(tmp_path: Path, migrated: Path) -> Iterator[Connection]:
    """A writer with outboxd's own tables; each statement commits by itself."""
    connection = open_writer(Path(shutil.copy(migrated, tmp_path)))
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
