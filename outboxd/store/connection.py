"""One database file: one writer lane with group commit, one read-only connection.

``write(fn)`` queues ``fn(connection)``; the pump runs what is queued in one BEGIN IMMEDIATE …
COMMIT in one hop to a worker thread, a savepoint for each, and only then answers the callers. So a
sync of the disk is shared by whoever waits for it, and nothing is acted upon before it is durable.

aiosqlite has no public way to run a function on its thread, and one hop per statement costs three
times the throughput; therefore sqlite3 itself, in a worker thread that no two callers share at
once.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread

from outboxd.errors import ConfigError, OutboxdError, StoreBroken, Unavailable

T = TypeVar("T")
Connection = sqlite3.Connection

BATCH = 64
"""Queued functions per transaction; each of them may itself be a batch of 200 messages."""

_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL: a message is acked after the commit, which must be on the disk
    "foreign_keys": 1,
    "busy_timeout": 5000,
    "trusted_schema": 0,
    "journal_size_limit": 67108864,
}

_BROKEN = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_READONLY")
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")


TURN_S = 0.02

_TURN = threading.Lock()


@contextmanager
def _turn() -> Iterator[None]:
    """One lane at a time runs Python; their COMMITs overlap.

    Several threads that hand the interpreter's lock to each other after every statement use a
    quarter more of the processor. A lane whose turn does not come soon (a slow handler in another
    one) goes on without it: nobody is held up for longer than TURN_S seconds.
    """
    has_turn = _TURN.acquire(timeout=TURN_S)
    try:
        yield
    finally:
        if has_turn:
            _TURN.release()


class Job(Generic[T]):
    """A queued function and, once its transaction is over, what became of it."""

    __slots__ = ("done", "error", "fn", "result")

    def __init__(self, fn: Callable[[Connection], T]) -> None:
        self.fn = fn
        self.done = anyio.Event()
        self.result: T | None = None
        self.error: BaseException | None = None


class Busy:
    """What the writer lane does right now: since when (monotonic seconds), in which thread."""

    __slots__ = ("since", "thread")

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.thread = threading.get_ident()


class Database:
    """The writer lane of one file. ``rollbacks`` grows whenever finished functions were undone:

    whoever keeps an image of the database in memory rebuilds it when that number has moved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rollbacks = 0
        self.commits = 0
        self.busy: Busy | None = None
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._queue: deque[Job[Any]] = deque()
        self._wake = anyio.Event()
        self._write_lane = anyio.CapacityLimiter(1)
        self._read_lane = anyio.CapacityLimiter(1)
        self._is_closed = False

    async def open(self) -> None:
        """Raises ConfigError if the file cannot be opened, StoreBroken if it is damaged."""
        self._writer = await anyio.to_thread.run_sync(open_writer, self.path)
        self._reader = await anyio.to_thread.run_sync(open_reader, self.path)

    async def close(self) -> None:
        """Waits for what runs, then closes; queued functions are refused."""
        self._refuse()
        with anyio.CancelScope(shield=True):
            for lane, connection in (
                (self._read_lane, self._reader),
                (self._write_lane, self._writer),
            ):
                if connection is not None:
                    await anyio.to_thread.run_sync(connection.close, limiter=lane)

    async def run(self) -> None:
        """The pump: one transaction after another, until cancelled or closed."""
        try:
            while not self._is_closed:
                if not self._queue:
                    self._wake = anyio.Event()
                    await self._wake.wait()
                jobs = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
                if jobs:
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(self._commit, jobs, limiter=self._write_lane)
                    for job in jobs:
                        job.done.set()
        finally:
            self._refuse()  # without its pump nobody must wait for a commit

    def _refuse(self) -> None:
        self._is_closed = True
        self._wake.set()
        refused = list(self._queue)
        self._queue.clear()
        self._fail(refused, Unavailable(f"{self.path.name} is closed"))
        for job in refused:
            job.done.set()

    def beat(self) -> None:
        """The writer lane goes on to its next piece of work; called in its thread."""
        if self.busy is not None:
            self.busy.since = time.monotonic()

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Runs ``fn`` in the next transaction; returns only after COMMIT has, also if cancelled.

        Raises what ``fn`` raised (then nothing of it is kept), or StoreBroken or Unavailable when
        the transaction failed as a whole.
        """
        if self._is_closed:
            raise Unavailable(f"{self.path.name} is closed")
        job: Job[T] = Job(fn)
        self._queue.append(job)
        self._wake.set()
        with anyio.CancelScope(shield=True):  # whoever asked for it must do what follows from it
            await job.done.wait()
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # set together with done

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Runs ``fn`` on the read-only connection; all that it reads is of one moment.

        So what a commit moves from one table to another is in one of the two.
        """
        reader = self._reader
        if reader is None or self._is_closed:
            raise Unavailable(f"{self.path.name} is closed")
        return await anyio.to_thread.run_sync(_snapshot, fn, reader, limiter=self._read_lane)

    def _commit(self, jobs: list[Job[Any]]) -> None:
        connection = self._writer
        assert connection is not None
        self.busy = Busy()
        try:
            connection.execute("BEGIN IMMEDIATE")
            with _turn():
                for job in jobs:
                    self._run_one(connection, job)
            connection.execute("COMMIT")
            self.commits += 1
        except sqlite3.Error as err:
            # A full disk has already rolled back the whole transaction: ROLLBACK would mask it.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self.rollbacks += 1
            self._fail(jobs, mapped(err, self.path.name))
        finally:
            self.busy = None

    def _run_one(self, connection: Connection, job: Job[Any]) -> None:
        connection.execute("SAVEPOINT job")
        try:
            job.result = job.fn(connection)
        except BaseException as err:
            if not connection.in_transaction:
                self.rollbacks += 1
                raise (
                    err if isinstance(err, sqlite3.Error) else sqlite3.OperationalError(str(err))
                ) from err
            connection.execute("ROLLBACK TO job")
            job.error = mapped(err, self.path.name) if is_infrastructure(err) else err
        connection.execute("RELEASE job")

    @staticmethod
    def _fail(jobs: list[Job[Any]], error: BaseException) -> None:
        for job in jobs:
            job.error = error


def open_writer(path: Path) -> Connection:
    """The one connection that writes; every pragma is read back."""

    def prepare(connection: Connection) -> None:
        for name, value in _PRAGMAS.items():
            connection.execute(f"PRAGMA {name} = {value}")
            found = connection.execute(f"PRAGMA {name}").fetchone()[0]
            if found != value:
                raise ConfigError(f"{path}: PRAGMA {name} is {found}, not {value}")

    return _opened(path, str(path), prepare)


def open_memory() -> Connection:
    """A database in memory, for the simulator: it opens and ends its own transactions."""
    return sqlite3.connect(
        ":memory:", isolation_level=None, check_same_thread=False, cached_statements=1024
    )


def open_reader(path: Path) -> Connection:
    """A connection that cannot write; raises ConfigError if there is no such file."""

    def prepare(connection: Connection) -> None:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()

    return _opened(path, f"{path.resolve().as_uri()}?mode=ro", prepare)


def _opened(path: Path, name: str, prepare: Callable[[Connection], None]) -> Connection:
    """A prepared connection; one that cannot be prepared is closed again."""
    is_uri = name.startswith("file:")
    try:
        connection = sqlite3.connect(
            name, uri=is_uri, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as err:
        raise cannot_open(path, err) from err
    try:
        prepare(connection)
    except BaseException as err:
        connection.close()
        if isinstance(err, sqlite3.Error):
            raise cannot_open(path, err) from err
        raise
    return connection


def cannot_open(path: Path, err: sqlite3.Error) -> OutboxdError:
    """The clear error for a database that does not open."""
    name = getattr(err, "sqlite_errorname", "")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return ConfigError(
            f"{path} is no SQLite database or is damaged: {err}", hint="restore a backup"
        )
    return ConfigError(
        f"cannot open {path}: {err}", hint="check that the data directory exists and is writable"
    )


def sqlite_version() -> str:
    """The version of the SQLite library, which is not the one of Python's module."""
    return sqlite3.sqlite_version


def sqlite_options() -> list[str]:
    """With which options the SQLite library was built."""
    connection = open_memory()
    try:
        return [row[0] for row in connection.execute("PRAGMA compile_options").fetchall()]
    finally:
        connection.close()


def is_infrastructure(err: BaseException) -> bool:
    """Whether ``err`` says that the database, not the handler, failed: it costs no attempt."""
    name = getattr(err, "sqlite_errorname", None) or ""
    return isinstance(err, sqlite3.Error) and name.startswith((*_BROKEN, *_BUSY, "SQLITE_NOMEM"))


def mapped(err: BaseException, name: str) -> OutboxdError:
    """Our error for one of SQLite's."""
    code = getattr(err, "sqlite_errorname", None) or type(err).__name__
    if code.startswith(_BROKEN):
        return StoreBroken(f"{name}: {err} ({code})", hint="free disk space or check the file")
    return Unavailable(f"{name}: {err} ({code})")


@contextmanager
def one_moment(connection: Connection) -> Iterator[Connection]:
    """One consistent view of a database, as long as the block lasts; it writes nothing."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _snapshot(fn: Callable[[Connection], T], connection: Connection) -> T:
    try:
        with one_moment(connection):
            return fn(connection)
    except sqlite3.Error as err:
        raise mapped(err, "database") from err
