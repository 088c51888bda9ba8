"""The read model's SQL: short queries on read-only connections, each by the index it names.

Nothing here writes, and nothing here knows what a person wants to see: that is ``monitor``'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from outboxd.errors import Unavailable
from outboxd.store.connection import Connection, mapped, one_moment


@contextmanager
def snapshot(connection: Connection, name: str) -> Iterator[Connection]:
    """``one_moment`` of a database, whose errors are ours."""
    try:
        with one_moment(connection):
            yield connection
    except sqlite3.Error as err:
        raise _of_another_version(err, name) or mapped(err, name) from err


def _of_another_version(err: sqlite3.Error, name: str) -> Unavailable | None:
    """A file lacks what this code reads: the daemon brings it up to date, a reader must not."""
    if not str(err).startswith(("no such column", "no such table")):
        return None
    return Unavailable(
        f"{name} was written by another version of outboxd: {err}",
        hint="`outboxd run` brings an older file up to date; a newer one needs its own outboxd",
    )


def is_store(connection: Connection) -> bool:
    """Whether this is a participant's database, with its tables made."""
    return _has_table(connection, "outboxd_meta")


def is_control(connection: Connection) -> bool:
    """Whether this is control.db, with its tables made."""
    return _has_table(connection, "request") and _has_table(connection, "catalog")


def _has_table(connection: Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,))
    return found.fetchone() is not None
