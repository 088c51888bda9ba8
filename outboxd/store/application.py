"""The table into which an application writes what it wants to send, in its own transactions.

It is a contract with programs in any language: one INSERT, committed together with the rows that
it tells of. The relay takes rows away once they are in the outbox; one that cannot travel stays,
with the reason in ``refused``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .connection import Connection

TABLE = "outboxd_send"

SCHEMA = """\
CREATE TABLE IF NOT EXISTS outboxd_send (
    n         INTEGER PRIMARY KEY AUTOINCREMENT,
    type      TEXT NOT NULL CHECK (type <> ''),
    key       TEXT,
    data      TEXT NOT NULL CHECK (data GLOB '{*}'),
    recipient TEXT CHECK (recipient <> '' AND recipient NOT GLOB '*[^a-z0-9_-]*'),
    refused   TEXT
) STRICT"""


class Row(msgspec.Struct, frozen=True):
    """One message to send; without a ``recipient`` it is an event for whoever subscribes."""

    n: int
    type: str
    key: str | None
    data: str
    recipient: str | None


def prepare(connection: Connection) -> None:
    """Creates the table where it is missing."""
    connection.execute(SCHEMA)


def waiting(connection: Connection, limit: int) -> list[Row]:
    """What is to be sent, in the order in which it was written (primary key)."""
    rows = connection.execute(
        "SELECT n, type, key, data, recipient FROM outboxd_send "
        "WHERE refused IS NULL ORDER BY n LIMIT ?",
        (limit,),
    )
    return [Row(*row) for row in rows.fetchall()]


def count(connection: Connection) -> int:
    """How many wait."""
    found: int = connection.execute(
        "SELECT COUNT(*) FROM outboxd_send WHERE refused IS NULL"
    ).fetchone()[0]
    return found


def remove(connection: Connection, rows: Sequence[Row]) -> None:
    """They are in the outbox now, by the same commit."""
    connection.executemany("DELETE FROM outboxd_send WHERE n = ?", [(row.n,) for row in rows])


def refuse(connection: Connection, row: Row, reason: str) -> None:
    """It cannot travel: it stays, for a person to see."""
    connection.execute("UPDATE outboxd_send SET refused = ? WHERE n = ?", (reason, row.n))
