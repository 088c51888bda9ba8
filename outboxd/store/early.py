"""Messages for sagas that do not wait for them yet: found when one does, in the order they came."""

from __future__ import annotations

import msgspec

from .connection import Connection


class Early(msgspec.Struct, frozen=True):
    """A message that is kept for the sagas of one name; ``body`` is its payload, as its schema's
    ``version`` writes it.
    """

    saga: str
    type: str
    key: str
    at: float
    body: bytes
    version: int


_ROW = ", ".join(Early.__struct_fields__)
_PLACES = ", ".join("?" * len(Early.__struct_fields__))


def add(connection: Connection, row: Early) -> None:
    connection.execute(
        f"INSERT INTO outboxd_early ({_ROW}) VALUES ({_PLACES})",
        msgspec.structs.astuple(row),
    )


def put_back(connection: Connection, row: Early) -> None:
    """Before all others: it was taken and is not wanted."""
    connection.execute(
        f"INSERT INTO outboxd_early (n, {_ROW}) "
        f"SELECT MIN(0, COALESCE(MIN(n), 0)) - 1, {_PLACES} FROM outboxd_early",
        msgspec.structs.astuple(row),
    )


def take(connection: Connection, saga: str, type_name: str, key: str) -> Early | None:
    """Removes and returns the first (index outboxd_early_key)."""
    row = connection.execute(
        f"SELECT n, {_ROW} FROM outboxd_early WHERE saga = ? AND key = ? AND type = ? "
        "ORDER BY n LIMIT 1",
        (saga, key, type_name),
    ).fetchone()
    if row is None:
        return None
    connection.execute("DELETE FROM outboxd_early WHERE n = ?", (row[0],))
    return Early(*row[1:])


def take_all(connection: Connection, saga: str, key: str) -> list[Early]:
    """Removes and returns whatever is kept for a key (index outboxd_early_key)."""
    rows = connection.execute(
        f"SELECT {_ROW} FROM outboxd_early WHERE saga = ? AND key = ? ORDER BY n", (saga, key)
    ).fetchall()
    if rows:
        connection.execute("DELETE FROM outboxd_early WHERE saga = ? AND key = ?", (saga, key))
    return [Early(*row) for row in rows]


def awaiting(connection: Connection, type_name: str, key: str) -> list[tuple[str, int]]:
    """(saga, position) of the receives that wait, the longest first (outboxd_call_awaited)."""
    found = connection.execute(
        "SELECT saga, pos FROM outboxd_call WHERE kind = 'receive' AND name = ? AND key = ? "
        "ORDER BY sent_at, saga, pos",
        (type_name, key),
    )
    return found.fetchall()
