"""control.db: requests of operators and senders on their way to the daemon, and its catalog.

Command line and dashboard write here and nowhere else; the daemon applies each request in the
participant's own transaction and then marks it. The daemon goes through ``Database``, as with every
file; other processes open the file with ``open_client``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from outboxd.errors import ConfigError, Refused

from .connection import Connection, cannot_open, mapped
from .retention import LIMIT, Pruned

T = TypeVar("T")

NAME = "control"
FILE = f"{NAME}.db"

State = Literal["pending", "applied", "refused"]

_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS request (
    id          TEXT PRIMARY KEY,
    at          REAL NOT NULL,
    kind        TEXT NOT NULL,
    participant TEXT NOT NULL,
    target      TEXT NOT NULL,
    args        BLOB NOT NULL,
    who         TEXT NOT NULL,
    reason      TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('pending', 'applied', 'refused')),
    result      TEXT NOT NULL,
    applied_at  REAL
) STRICT
""",
    """
CREATE INDEX IF NOT EXISTS request_pending ON request (state) WHERE state = 'pending'
""",
    """
CREATE TABLE IF NOT EXISTS catalog (
    type        TEXT PRIMARY KEY,
    participant TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('command', 'event', 'saga')),
    key_field   TEXT,
    schema      BLOB NOT NULL
) STRICT, WITHOUT ROWID
""",
)

_BUSY_MS = 10_000
"""A client waits this long for the daemon's commits; they take milliseconds."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do for one participant; times are UTC seconds, ``args`` is JSON.

    ``kind``: send, dead.replay, dead.discard, sender.trust, subscriber.remove, participant.pause,
    participant.resume, or saga. and cancel, retry, skip, resolve or kill; ``target``: the message
    type, the letters, the sender, the subscriber or the saga; ``result``: what became of it, or why
    it was refused.
    """

    id: str
    at: float
    kind: str
    participant: str
    target: str
    args: bytes = b"{}"
    who: str = ""
    reason: str = ""
    state: State = "pending"
    result: str = ""
    applied_at: float | None = None

    @property
    def content(self) -> tuple[str, str, str, bytes]:
        """What makes two requests the same, whoever makes them and whenever."""
        return self.kind, self.participant, self.target, self.args


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A message type that can be sent here; ``schema`` is the JSON Schema of its payload.

    ``kind``: command, event, or saga for what starts one.
    """

    type: str
    participant: str
    kind: Literal["command", "event", "saga"]
    key_field: str | None = None
    schema: bytes = b"{}"


_REQUEST = ", ".join(Request.__struct_fields__)
_REQUEST_PLACES = ", ".join("?" * len(Request.__struct_fields__))
_ENTRY = ", ".join(CatalogEntry.__struct_fields__)
_ENTRY_PLACES = ", ".join("?" * len(CatalogEntry.__struct_fields__))


def prepare(connection: Connection) -> None:
    """Creates the tables where they are missing; the daemon's first write."""
    for statement in _SCHEMA:
        connection.execute(statement)


def add_request(connection: Connection, request: Request) -> Request:
    """Adds ``request``, or returns the one that has its id and content already.

    Raises Refused when that id was used for something else.
    """
    known = get(connection, request.id)
    if known is None:
        connection.execute(
            f"INSERT INTO request ({_REQUEST}) VALUES ({_REQUEST_PLACES})",
            msgspec.structs.astuple(request),
        )
        return request
    if known.content != request.content:
        raise Refused(
            f"{request.id} was used before, for {known.kind} {known.target} with other content",
            hint="use another id, or leave it out",
        )
    return known


def pending(connection: Connection, limit: int, *, closed: Sequence[str] = ()) -> list[Request]:
    """What waits to be applied, in the order in which it came (index request_pending).

    Without what is sent to those who are ``closed``.
    """
    rows = connection.execute(
        f"SELECT {_REQUEST} FROM request WHERE state = 'pending' AND NOT (kind = 'send' AND "
        f"participant IN ({', '.join('?' * len(closed))})) ORDER BY rowid LIMIT ?",
        (*closed, limit),
    )
    return [_request(row) for row in rows.fetchall()]


def mark(connection: Connection, request_id: str, state: State, result: str, at: float) -> None:
    """Records what became of a request; the first verdict stays."""
    connection.execute(
        "UPDATE request SET state = ?, result = ?, applied_at = ? "
        "WHERE id = ? AND state = 'pending'",
        (state, result, at, request_id),
    )


def get(connection: Connection, request_id: str) -> Request | None:
    """One request (primary key)."""
    row = connection.execute(
        f"SELECT {_REQUEST} FROM request WHERE id = ?", (request_id,)
    ).fetchone()
    return None if row is None else _request(row)


def requests(connection: Connection, limit: int, state: State | None = None) -> list[Request]:
    """The latest requests, the newest first."""
    rows = connection.execute(
        f"SELECT {_REQUEST} FROM request WHERE ? IS NULL OR state = ? ORDER BY rowid DESC LIMIT ?",
        (state, state, limit),
    )
    return [_request(row) for row in rows.fetchall()]


def forget(connection: Connection, before: float) -> Pruned:
    """Deletes a part of the requests that were settled before a moment."""
    rows = connection.execute(
        "DELETE FROM request WHERE id IN (SELECT id FROM request "
        "WHERE state <> 'pending' AND applied_at < ? LIMIT ?)",
        (before, LIMIT),
    ).rowcount
    return Pruned(rows, rows == LIMIT)


def put_catalog(connection: Connection, entries: Iterable[CatalogEntry]) -> None:
    """Replaces the catalog by what is hosted now."""
    connection.execute("DELETE FROM catalog")
    connection.executemany(
        f"INSERT INTO catalog ({_ENTRY}) VALUES ({_ENTRY_PLACES})",
        [msgspec.structs.astuple(entry) for entry in entries],
    )


def catalog(connection: Connection) -> dict[str, CatalogEntry]:
    """Type to its entry."""
    rows = connection.execute(f"SELECT {_ENTRY} FROM catalog ORDER BY type").fetchall()
    fields = CatalogEntry.__struct_fields__
    return {row[0]: CatalogEntry(**dict(zip(fields, row, strict=True))) for row in rows}


# What other processes than the daemon use.


@contextmanager
def client(data: Path) -> Iterator[Connection]:
    """A connection for another process than the daemon, which never checkpoints beside it.

    SQLite before 3.51.3 can damage a file that two connections checkpoint at once. Raises
    ConfigError where there is no data directory, Unavailable where SQLite cannot write.
    """
    connection = open_client(data)
    try:
        yield connection
    except sqlite3.Error as err:
        raise mapped(err, FILE) from err
    finally:
        connection.close()


def open_client(data: Path) -> Connection:
    """The connection of ``client``; whoever opens it closes it."""
    path = data / FILE
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None
        )
    except sqlite3.Error as err:
        raise no_data(data) if not path.exists() else cannot_open(path, err) from err
    try:
        for pragma in ("synchronous = 2", f"busy_timeout = {_BUSY_MS}", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}")
        prepare(connection)
    except sqlite3.Error as err:
        connection.close()
        raise cannot_open(path, err) from err
    return connection


def transact(connection: Connection, fn: Callable[[Connection], T]) -> T:
    """Runs ``fn`` in a transaction that takes its lock first; returns after COMMIT has."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        value = fn(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return value


def data_version(connection: Connection) -> int:
    """A number that moves with every commit of another connection."""
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version


def no_data(data: Path) -> ConfigError:
    """The clear error for a directory in which outboxd never ran."""
    return ConfigError(
        f"there is no outboxd data in {data}",
        hint="name its directory with --data, or start `outboxd run` there first",
    )


def _request(row: Sequence[Any]) -> Request:
    return Request(**dict(zip(Request.__struct_fields__, row, strict=True)))
