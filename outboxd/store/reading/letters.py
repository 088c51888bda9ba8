"""Dead letters, by cause and one by one, with their attempts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from outboxd.store.connection import Connection

from .filters import Column, Condition, places

LETTER_COLUMNS = {
    "id": Column("'d-' || n || ' ' || id"),
    "key": Column("key"),
    "type": Column("type"),
    "handler": Column("handler"),
    "error": Column("error_type || ' ' || error"),
    "state": Column("state", "is"),
    "age": Column("(julianday('now') - 2440587.5) * 86400.0 - at", "number"),
    "try": Column("attempts", "number"),
    # One cause, as the groups are made.
    "group": Column("handler || ' ' || error_type", "is"),
}


class Listed(msgspec.Struct, frozen=True):
    """A dead letter without its message and traceback; times are UTC seconds."""

    n: int
    id: str
    sender: str
    kind: str
    type: str
    key: str | None
    handler: str
    state: str
    attempts: int
    failed: int
    replays: int
    first_at: float
    at: float
    error_type: str
    error: str
    reason: str | None


class Group(msgspec.Struct, frozen=True):
    """Letters with one cause: handler and type of error."""

    handler: str
    error_type: str
    letters: int
    first_at: float
    last_at: float
    failed: int
    replays: int
    error: str


class Tried(msgspec.Struct, frozen=True):
    """One failed attempt."""

    n: int
    at: float
    took_s: float
    outcome: str
    error: str
    traceback: str


class Applied(msgspec.Struct, frozen=True):
    """An operator's request that was applied here."""

    id: str
    at: float
    kind: str
    target: str
    who: str
    reason: str
    result: str


# Who has no numbers of its own is counted under "*"; its message says who it is.
_SENDER = (
    "CASE WHEN sender <> '*' THEN sender WHEN NOT json_valid(CAST(body AS TEXT)) THEN 'unknown' "
    "ELSE COALESCE(CAST(body AS TEXT) ->> '$.source', 'unknown') END"
)
_LISTED = ", ".join(_SENDER if f == "sender" else f for f in Listed.__struct_fields__)
_TRIED = ", ".join(Tried.__struct_fields__)
_APPLIED = ", ".join(Applied.__struct_fields__)
_LIVE = "state IN ('dead', 'replaying')"


def letters(
    connection: Connection, condition: Condition, limit: int, *, only_live: bool
) -> list[Listed]:
    """Letters that match, the latest first (the live ones by index outboxd_dead_open)."""
    sql, args = condition
    found = connection.execute(
        f"SELECT {_LISTED} FROM outboxd_dead WHERE {_LIVE if only_live else '1'} AND {sql} "
        "ORDER BY n DESC LIMIT ?",
        (*args, limit),
    )
    return [Listed(*row) for row in found.fetchall()]


def letter(connection: Connection, n: int) -> Listed | None:
    """One letter (primary key)."""
    row = connection.execute(f"SELECT {_LISTED} FROM outboxd_dead WHERE n = ?", (n,)).fetchone()
    return None if row is None else Listed(*row)


def letter_of(connection: Connection, message_id: str) -> Listed | None:
    """The latest letter of a message (index outboxd_dead_id)."""
    row = connection.execute(
        f"SELECT {_LISTED} FROM outboxd_dead WHERE id = ? ORDER BY n DESC LIMIT 1", (message_id,)
    ).fetchone()
    return None if row is None else Listed(*row)


def letter_content(connection: Connection, n: int) -> tuple[str, bytes]:
    """(traceback, message) of a letter (primary key)."""
    row: tuple[str, bytes] = connection.execute(
        "SELECT traceback, body FROM outboxd_dead WHERE n = ?", (n,)
    ).fetchone()
    return row


def groups(connection: Connection, condition: Condition) -> list[Group]:
    """Live letters by cause, the largest group first (index outboxd_dead_open)."""
    sql, args = condition
    found = connection.execute(
        "SELECT handler, error_type, COUNT(*), MIN(first_at), MAX(at), SUM(failed), SUM(replays), "
        f"error FROM outboxd_dead WHERE {_LIVE} AND {sql} "
        "GROUP BY handler, error_type ORDER BY COUNT(*) DESC",
        args,
    )
    return [Group(*row) for row in found.fetchall()]


def deaths(
    connection: Connection, condition: Condition, since: float, span_s: float
) -> list[tuple[str, str, int, int]]:
    """(handler, type of error, which span since then, letters in it) of the live letters that
    match (index outboxd_dead_open).
    """
    sql, args = condition
    found = connection.execute(
        "SELECT handler, error_type, CAST((at - ?) / ? AS INTEGER), COUNT(*) FROM outboxd_dead "
        f"WHERE {_LIVE} AND at >= ? AND {sql} GROUP BY 1, 2, 3",
        (since, span_s, since, *args),
    )
    return found.fetchall()


def attempts(connection: Connection, message_id: str) -> list[Tried]:
    """The failed attempts of a message (primary key range)."""
    found = connection.execute(
        f"SELECT {_TRIED} FROM outboxd_attempt WHERE id = ? ORDER BY n", (message_id,)
    )
    return [Tried(*row) for row in found.fetchall()]


def applied_to(connection: Connection, target: str) -> list[Applied]:
    """What operators did to a saga or a letter: one pass over the audit trail."""
    found = connection.execute(
        f"SELECT {_APPLIED} FROM outboxd_applied "
        "WHERE INSTR(' ' || target || ' ', ' ' || ? || ' ') > 0 ORDER BY at",
        (target,),
    )
    return [Applied(*row) for row in found.fetchall()]


def live(connection: Connection) -> int:
    """How many letters wait for a person (index outboxd_dead_open)."""
    count: int = connection.execute(f"SELECT COUNT(*) FROM outboxd_dead WHERE {_LIVE}").fetchone()[
        0
    ]
    return count


def states(connection: Connection, numbers: Sequence[int]) -> dict[str, int]:
    """State to how many of these letters are in it (primary key)."""
    found = connection.execute(
        f"SELECT state, COUNT(*) FROM outboxd_dead WHERE n IN ({places(numbers)}) GROUP BY state",
        numbers,
    )
    return dict(found.fetchall())


def last_number(connection: Connection) -> int:
    """The highest number of a letter here; 0 without any (primary key)."""
    last: int = connection.execute("SELECT COALESCE(MAX(n), 0) FROM outboxd_dead").fetchone()[0]
    return last


def live_numbers(connection: Connection, condition: Condition) -> list[int]:
    """Numbers of the dead letters that match, the oldest first (index outboxd_dead_open)."""
    sql, args = condition
    found = connection.execute(
        f"SELECT n FROM outboxd_dead WHERE {_LIVE} AND state = 'dead' AND {sql} ORDER BY n", args
    )
    return [row[0] for row in found.fetchall()]
