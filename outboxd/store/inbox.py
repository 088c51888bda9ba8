"""The inbox: who has sent up to where, and what is held here and not yet done."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .connection import Connection


class Sender(msgspec.Struct):
    """How far one sender's stream is held here; ``done`` counts what was finished of it."""

    epoch: int
    since: int
    accepted: int
    done: int


class Held(msgspec.Struct):
    """One row: a message that is held and not yet done. Times are UTC seconds."""

    n: int
    lane: str
    id: str
    sender: str
    kind: str
    type: str
    key: str | None
    state: str
    is_suspect: int
    attempts: int
    crashes: int
    letter: int | None
    at: float
    due_at: float
    started_at: float | None
    error: str | None
    body: bytes


_COLUMNS = ", ".join(Held.__struct_fields__)
_PLACES = ", ".join("?" * len(Held.__struct_fields__))


def senders(connection: Connection) -> dict[tuple[str, str], Sender]:
    """(sender, kind) to its row."""
    rows = connection.execute(
        "SELECT sender, kind, epoch, since, accepted, done FROM outboxd_sender"
    )
    return {(name, kind): Sender(*rest) for name, kind, *rest in rows.fetchall()}


def save_senders(connection: Connection, rows: Sequence[tuple[tuple[str, str], Sender]]) -> None:
    connection.executemany(
        "INSERT INTO outboxd_sender VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (sender, kind) DO UPDATE "
        "SET (epoch, since, accepted, done) = "
        "(excluded.epoch, excluded.since, excluded.accepted, excluded.done)",
        [(*key, row.epoch, row.since, row.accepted, row.done) for key, row in rows],
    )


def add(connection: Connection, held: Held) -> int:
    """Inserts ``held`` (its ``n`` is ignored) and returns its number."""
    cursor = connection.execute(
        f"INSERT INTO outboxd_inbox ({_COLUMNS}) VALUES ({_PLACES})",
        (None, *msgspec.structs.astuple(held)[1:]),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def save(connection: Connection, held: Held) -> None:
    """Writes what can change of a row."""
    connection.execute(
        "UPDATE outboxd_inbox SET state = ?, is_suspect = ?, attempts = ?, crashes = ?, "
        "letter = ?, due_at = ?, started_at = ?, error = ? WHERE n = ?",
        (
            held.state,
            held.is_suspect,
            held.attempts,
            held.crashes,
            held.letter,
            held.due_at,
            held.started_at,
            held.error,
            held.n,
        ),
    )


def remove(connection: Connection, n: int) -> None:
    connection.execute("DELETE FROM outboxd_inbox WHERE n = ?", (n,))


def by_number(connection: Connection, n: int) -> Held | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM outboxd_inbox WHERE n = ?", (n,)).fetchone()
    return None if row is None else Held(*row)


def by_id(connection: Connection, message_id: str) -> Held | None:
    """The held row of a message (index outboxd_inbox_id)."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM outboxd_inbox WHERE id = ?", (message_id,)
    ).fetchone()
    return None if row is None else Held(*row)


def held_for(connection: Connection, saga_id: str) -> list[Held]:
    """Messages that are held because this saga is stuck; ``error`` names it."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM outboxd_inbox WHERE state = 'held' AND error = ? ORDER BY n",
        (saga_id,),
    )
    return [Held(*row) for row in rows.fetchall()]


def stands_behind(connection: Connection, held: Held) -> str | None:
    """The saga that stands, with a message that is held before this one in its lane, if any."""
    row = connection.execute(
        "SELECT error FROM outboxd_inbox WHERE lane = ? AND n < ? AND state = 'held' "
        "AND letter IS NULL LIMIT 1",
        (held.lane, held.n),
    ).fetchone()
    return None if row is None else row[0]


def holds(connection: Connection, type_name: str, key: str) -> bool:
    """Whether a message of this type and key is held; reads the whole inbox, which is short."""
    row = connection.execute(
        "SELECT 1 FROM outboxd_inbox WHERE type = ? AND key = ? LIMIT 1", (type_name, key)
    ).fetchone()
    return row is not None


def reopen(connection: Connection, now: float, *, was_clean: bool) -> None:
    """After a start: an attempt was interrupted, not failed, and is due; crashes count apart.

    After a crash it is suspect, and so is what has not been tried: it may have run unrecorded.
    """
    if not was_clean:
        connection.execute(
            "UPDATE outboxd_inbox SET is_suspect = 1 WHERE state = 'waiting' AND attempts = 0"
        )
    crash = int(not was_clean)
    connection.execute(
        "UPDATE outboxd_inbox SET state = 'waiting', due_at = ?, attempts = attempts - 1, "
        "crashes = crashes + ?, is_suspect = MAX(is_suspect, ?) WHERE state = 'running'",
        (now, crash, crash),
    )


def places(connection: Connection) -> list[tuple[int, str, str, str, float, int]]:
    """(n, lane, type, state, due_at, is_suspect) of all rows, in the order of their lanes.

    As they were accepted, but what runs stands first, also where an undo has passed its step. No
    body is read: there may be many, and large ones.
    """
    rows = connection.execute(
        "SELECT n, lane, type, state, due_at, is_suspect FROM outboxd_inbox "
        "ORDER BY state <> 'running', n"
    )
    return rows.fetchall()


def seen_mark(connection: Connection, source: str, message_id: str) -> int | None:
    """The fingerprint of a foreign message that was seen before, or None."""
    row = connection.execute(
        "SELECT mark FROM outboxd_seen WHERE source = ? AND id = ?", (source, message_id)
    ).fetchone()
    return None if row is None else row[0]


def see(connection: Connection, source: str, message_id: str, mark: int, at: float) -> None:
    connection.execute(
        "INSERT INTO outboxd_seen VALUES (?, ?, ?, ?)", (source, message_id, mark, at)
    )


def fail_attempt(
    connection: Connection,
    message_id: str,
    at: float,
    took_s: float,
    outcome: str,
    error: str,
    traceback: str,
) -> None:
    """Records one failed attempt; its number follows the last one's (primary key range)."""
    connection.execute(
        "INSERT INTO outboxd_attempt SELECT ?, COALESCE(MAX(n), 0) + 1, ?, ?, ?, ?, ? "
        "FROM outboxd_attempt WHERE id = ?",
        (message_id, at, took_s, outcome, error, traceback, message_id),
    )


def once_result(
    connection: Connection, message_id: str, name: str
) -> tuple[str, bytes | None] | None:
    """(state, result) of what an effect did under ``name``, or None if it never began."""
    row: tuple[str, bytes | None] | None = connection.execute(
        "SELECT state, result FROM outboxd_once WHERE id = ? AND name = ?", (message_id, name)
    ).fetchone()
    return row


def start_once(connection: Connection, message_id: str, name: str, at: float) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO outboxd_once VALUES (?, ?, 'started', ?, NULL)",
        (message_id, name, at),
    )


def end_once(connection: Connection, message_id: str, name: str, result: bytes) -> None:
    connection.execute(
        "UPDATE outboxd_once SET state = 'done', result = ? WHERE id = ? AND name = ?",
        (result, message_id, name),
    )


def has_acted(connection: Connection, message_id: str) -> bool:
    """Whether an effect of this message may have acted outside."""
    row = connection.execute("SELECT 1 FROM outboxd_once WHERE id = ? LIMIT 1", (message_id,))
    return row.fetchone() is not None


def forget_once(connection: Connection, message_id: str) -> None:
    connection.execute("DELETE FROM outboxd_once WHERE id = ?", (message_id,))
