"""A participant's database in memory, with the face of ``store.connection.Database``.

A whole run lies in one open transaction, which is rolled back at its end: so the next run begins
with the prepared tables at once. What is a transaction for the engine is a savepoint in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from outboxd.errors import StoreBroken
from outboxd.store.connection import Connection

from .guard import guarded

T = TypeVar("T")


class Killed(BaseException):
    """The process dies here: nothing of what follows happens."""


class Watcher(Protocol):
    """Who decides what becomes of a commit, and hears of it."""

    def before_commit(self) -> str | None:
        """None, or "killed", "refused" or "killed after"."""
        ...

    def after_commit(self) -> None: ...

    def rolled_back(self) -> None: ...


class MemoryDatabase:
    """``rollbacks`` grows when finished work was undone, as in Database."""

    def __init__(self, name: str, connection: Connection, watcher: Watcher) -> None:
        self.path = Path(f"{name}.db")
        self.rollbacks = 0
        self._connection = connection
        self._watcher = watcher

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """``fn`` in a transaction; it ends as the watcher says."""
        return self.transact(fn)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        return fn(self._connection)

    def transact(self, fn: Callable[[Connection], T]) -> T:
        """Raises what ``fn`` raises, StoreBroken or Killed; then nothing of it is kept."""
        connection = self._connection
        before = connection.total_changes
        connection.execute("SAVEPOINT run")
        try:
            with guarded():
                value = fn(connection)
            fate = self._watcher.before_commit() if connection.total_changes != before else None
            if fate == "killed":
                raise Killed
            if fate == "refused":
                self.rollbacks += 1
                raise StoreBroken("the disk refused the commit (SQLITE_FULL)")
        except BaseException:
            connection.execute("ROLLBACK TO run")
            connection.execute("RELEASE run")
            self._watcher.rolled_back()
            raise
        connection.execute("RELEASE run")
        if connection.total_changes != before:
            self._watcher.after_commit()
        if fate == "killed after":
            raise Killed
        return value
