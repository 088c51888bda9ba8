"""The outbox: committed with the state that it speaks of, deleted once every receiver holds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from .connection import Connection


class OutRow(msgspec.Struct, frozen=True):
    """One row on its way to its stream."""

    stream: str
    seq: int
    body: bytes


def add(
    connection: Connection,
    last: dict[str, int],
    messages: Iterable[tuple[str, str, bytes]],
    at: float,
) -> list[OutRow]:
    """Numbers ``messages`` (stream, id, body) and inserts them; ``last`` is moved along."""
    rows: list[OutRow] = []
    values: list[tuple[str, int, str, float, bytes]] = []
    touched: dict[str, int] = {}
    for stream, message_id, body in messages:
        seq = last[stream] = touched[stream] = last.get(stream, 0) + 1
        rows.append(OutRow(stream, seq, body))
        values.append((stream, seq, message_id, at, body))
    connection.executemany("INSERT INTO outboxd_outbox VALUES (?, ?, ?, ?, ?)", values)
    connection.executemany(
        "INSERT INTO outboxd_stream VALUES (?, ?) "
        "ON CONFLICT (stream) DO UPDATE SET last = excluded.last",
        touched.items(),
    )
    return rows


def last_numbers(connection: Connection) -> dict[str, int]:
    """The last number given out on each stream."""
    return dict(connection.execute("SELECT stream, last FROM outboxd_stream").fetchall())


def after(connection: Connection, stream: str, seq: int, limit: int) -> list[OutRow]:
    """Rows of ``stream`` above ``seq``, in order (primary key range)."""
    rows = connection.execute(
        "SELECT seq, body FROM outboxd_outbox WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?",
        (stream, seq, limit),
    )
    return [OutRow(stream, number, body) for number, body in rows.fetchall()]


def has(connection: Connection, stream: str, message_id: str) -> bool:
    """Whether a message is not settled; reads what the outbox has of the stream."""
    row = connection.execute(
        "SELECT 1 FROM outboxd_outbox WHERE stream = ? AND id = ? LIMIT 1", (stream, message_id)
    ).fetchone()
    return row is not None


def unsettled(connection: Connection) -> dict[str, tuple[int, int]]:
    """Stream to (first, last) number that is not settled."""
    rows = connection.execute(
        "SELECT stream, MIN(seq), MAX(seq) FROM outboxd_outbox GROUP BY stream"
    )
    return {stream: (first, last) for stream, first, last in rows.fetchall()}


def renumber(connection: Connection) -> None:
    """Gives all rows new numbers from 1, in their order: a new epoch begins."""
    rows = connection.execute(
        "SELECT stream, id, body, at FROM outboxd_outbox ORDER BY stream, seq"
    ).fetchall()
    connection.execute("DELETE FROM outboxd_outbox")
    connection.execute("DELETE FROM outboxd_stream")
    last: dict[str, int] = {}
    for stream, message_id, body, at in rows:
        add(connection, last, [(stream, message_id, body)], at)


def settle(connection: Connection, marks: Sequence[tuple[str, int]]) -> None:
    """Deletes the rows that every receiver holds: up to a number, per stream (primary key)."""
    connection.executemany("DELETE FROM outboxd_outbox WHERE stream = ? AND seq <= ?", marks)


def delay(connection: Connection, message_id: str, stream: str, due_at: float, body: bytes) -> None:
    """Holds a message back until ``due_at``."""
    connection.execute(
        "INSERT INTO outboxd_delayed (id, stream, due_at, body) VALUES (?, ?, ?, ?)",
        (message_id, stream, due_at, body),
    )


def take_due(connection: Connection, now: float, limit: int) -> list[tuple[str, str, bytes]]:
    """Removes and returns delayed messages that are due, as (stream, id, body).

    Those of one moment in the order in which they were sent (index outboxd_delayed_due).
    """
    rows = connection.execute(
        "SELECT n, stream, id, body FROM outboxd_delayed WHERE due_at <= ? "
        "ORDER BY due_at, n LIMIT ?",
        (now, limit),
    ).fetchall()
    connection.executemany("DELETE FROM outboxd_delayed WHERE n = ?", [row[:1] for row in rows])
    return [row[1:] for row in rows]


def next_due(connection: Connection) -> float | None:
    """When the next delayed message sets out, if there is one (index outboxd_delayed_due)."""
    due: float | None = connection.execute("SELECT MIN(due_at) FROM outboxd_delayed").fetchone()[0]
    return due
