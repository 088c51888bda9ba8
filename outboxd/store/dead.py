"""Dead letters: the whole message, its handler, its error, and what became of it since."""

from __future__ import annotations

import msgspec

from .connection import Connection


class Letter(msgspec.Struct, frozen=True):
    """One dead letter; times are UTC seconds."""

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
    traceback: str
    reason: str | None
    body: bytes
    settled_at: float | None = None

    @property
    def name(self) -> str:
        """What people call it: d-77."""
        return f"d-{self.n}"


_COLUMNS = ", ".join(Letter.__struct_fields__)
_PLACES = ", ".join("?" * len(Letter.__struct_fields__))


def add(connection: Connection, letter: Letter) -> int:
    """Inserts ``letter`` (its ``n`` is ignored) and returns its number."""
    cursor = connection.execute(
        f"INSERT INTO outboxd_dead ({_COLUMNS}) VALUES ({_PLACES})",
        (None, *msgspec.structs.astuple(letter)[1:]),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def die_again(connection: Connection, letter: Letter) -> None:
    """A replayed letter failed once more: it returns with its newest error."""
    connection.execute(
        "UPDATE outboxd_dead SET state = 'dead', failed = failed + 1, attempts = ?, at = ?, "
        "error_type = ?, error = ?, traceback = ? WHERE n = ?",
        (letter.attempts, letter.at, letter.error_type, letter.error, letter.traceback, letter.n),
    )


def get(connection: Connection, n: int) -> Letter | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM outboxd_dead WHERE n = ?", (n,)).fetchone()
    return None if row is None else Letter(*row)


def by_message(connection: Connection, message_id: str) -> Letter | None:
    """The latest letter of a message (index outboxd_dead_id)."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM outboxd_dead WHERE id = ? ORDER BY n DESC LIMIT 1", (message_id,)
    ).fetchone()
    return None if row is None else Letter(*row)


def set_state(
    connection: Connection,
    n: int,
    state: str,
    reason: str | None = None,
    *,
    settled_at: float | None = None,
) -> None:
    """What became of it, and for what reason; ``settled_at``: when, if that is its end."""
    connection.execute(
        "UPDATE outboxd_dead SET state = ?, settled_at = ?, reason = COALESCE(?, reason), "
        "replays = replays + (? = 'replaying') WHERE n = ?",
        (state, settled_at, reason, state, n),
    )


def count_open(connection: Connection) -> int:
    """How many letters are dead or being replayed (index outboxd_dead_open)."""
    row = connection.execute(
        "SELECT COUNT(*) FROM outboxd_dead WHERE state IN ('dead', 'replaying')"
    )
    count: int = row.fetchone()[0]
    return count
