"""Where a message is: in an inbox, in an outbox, and what is before it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from outboxd.store.connection import Connection

from .filters import places


class Place(msgspec.Struct, frozen=True):
    """A message in an inbox."""

    n: int
    lane: str
    id: str
    type: str
    key: str | None
    sender: str
    state: str
    attempts: int
    letter: int | None
    at: float
    due_at: float
    started_at: float | None
    error: str | None
    crashes: int = 0
    is_suspect: int = 0


class Sent(msgspec.Struct, frozen=True):
    """A message in an outbox; ``seq`` is None for a delayed one, whose time is then ``at``."""

    stream: str
    seq: int | None
    at: float


_PLACE = ", ".join(Place.__struct_fields__)


def retried_messages(connection: Connection, limit: int) -> list[str]:
    """Ids of messages here that have failed and are tried again: one pass over the inbox."""
    found = connection.execute(
        "SELECT id FROM outboxd_inbox WHERE attempts > 0 AND state <> 'held' LIMIT ?", (limit,)
    )
    return [row[0] for row in found.fetchall()]


def in_inbox(connection: Connection, ids: Sequence[str]) -> dict[str, Place]:
    """Those of ``ids`` that are held here and not done (index outboxd_inbox_id)."""
    found = connection.execute(
        f"SELECT {_PLACE} FROM outboxd_inbox WHERE id IN ({places(ids)})", ids
    )
    return {row[2]: Place(*row) for row in found.fetchall()}


def answers_in_inbox(connection: Connection, call_id: str) -> list[Place]:
    """Answers to a call, and its deadline, that are held here (index outboxd_inbox_id)."""
    found = connection.execute(
        f"SELECT {_PLACE} FROM outboxd_inbox WHERE id >= ? AND id < ? ORDER BY n",
        (f"{call_id}:", f"{call_id};"),  # ";" follows ":"
    )
    return [Place(*row) for row in found.fetchall()]


def ahead_of(connection: Connection, place: Place) -> Place | None:
    """The first message of its lane, if that is another one: one pass over the inbox."""
    row = connection.execute(
        f"SELECT {_PLACE} FROM outboxd_inbox WHERE lane = ? AND n < ? ORDER BY n LIMIT 1",
        (place.lane, place.n),
    ).fetchone()
    return None if row is None else Place(*row)


def in_outbox(connection: Connection, stream: str, message_id: str) -> tuple[int, float] | None:
    """(number, time) of a message that is not settled: one pass over its stream's rows."""
    row: tuple[int, float] | None = connection.execute(
        "SELECT seq, at FROM outboxd_outbox WHERE stream = ? AND id = ?", (stream, message_id)
    ).fetchone()
    return row


def first_in_outbox(connection: Connection, stream: str) -> int | None:
    """The lowest number on a stream that is not settled (primary key)."""
    found: int | None = connection.execute(
        "SELECT MIN(seq) FROM outboxd_outbox WHERE stream = ?", (stream,)
    ).fetchone()[0]
    return found


def anywhere_in_outbox(connection: Connection, message_id: str) -> list[Sent]:
    """A message that is not settled, on each of its streams: one pass over the outbox."""
    found = connection.execute(
        "SELECT stream, seq, at FROM outboxd_outbox WHERE id = ? "
        "UNION ALL SELECT stream, NULL, due_at FROM outboxd_delayed WHERE id = ?",
        (message_id, message_id),
    )
    return [Sent(*row) for row in found.fetchall()]


class Queued(msgspec.Struct, frozen=True):
    """A message in an outbox, on its way; ``due_at``: of a delayed one, when it sets out."""

    stream: str
    at: float | None
    due_at: float | None
    body: bytes


def outbox_rows(connection: Connection, limit: int) -> list[Queued]:
    """Unsettled messages of each stream, the oldest first (primary key)."""
    found: list[Queued] = []
    for (stream,) in connection.execute("SELECT stream FROM outboxd_stream").fetchall():
        rows = connection.execute(
            "SELECT stream, at, NULL, body FROM outboxd_outbox WHERE stream = ? "
            "ORDER BY seq LIMIT ?",
            (stream, limit),
        )
        found += [Queued(*row) for row in rows.fetchall()]
    return found


def delayed_rows(connection: Connection, limit: int) -> list[Queued]:
    """Delayed sends, the first due first (index outboxd_delayed_due)."""
    rows = connection.execute(
        "SELECT stream, NULL, due_at, body FROM outboxd_delayed ORDER BY due_at LIMIT ?", (limit,)
    )
    return [Queued(*row) for row in rows.fetchall()]


def inbox_rows(connection: Connection, limit: int) -> list[Place]:
    """Messages that are held and not done, the oldest first (primary key)."""
    rows = connection.execute(f"SELECT {_PLACE} FROM outboxd_inbox ORDER BY n LIMIT ?", (limit,))
    return [Place(*row) for row in rows.fetchall()]


def body_of(connection: Connection, message_id: str) -> bytes | None:
    """A message that waits here: in the inbox (index), delayed (key), or in the outbox (a pass)."""
    row = connection.execute(
        "SELECT body FROM outboxd_inbox WHERE id = ? UNION ALL "
        "SELECT body FROM outboxd_delayed WHERE id = ? UNION ALL "
        "SELECT body FROM outboxd_outbox WHERE id = ? LIMIT 1",
        (message_id, message_id, message_id),
    ).fetchone()
    return None if row is None else row[0]
