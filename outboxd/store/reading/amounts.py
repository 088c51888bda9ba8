"""How much lies where in one store."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from outboxd.store.connection import Connection

OPEN = ("stuck", "compensating", "running")
ENDED = ("completed", "compensated", "cancelled")


class InboxCount(msgspec.Struct, frozen=True):
    """Messages that are held and not yet done; ``retry_at``: when the next of them is tried."""

    waiting: int = 0
    retrying: int = 0
    running: int = 0
    held: int = 0
    retry_at: float | None = None


class Stream(msgspec.Struct, frozen=True):
    """What a store has put on one stream: last number, and the rows that are not settled."""

    stream: str
    last: int
    first_row: int | None
    last_row: int | None

    @property
    def rows(self) -> int:
        if self.first_row is None or self.last_row is None:
            return 0
        return self.last_row - self.first_row + 1


def streams(connection: Connection) -> list[Stream]:
    """Each stream, by two seeks in the outbox's key: settled rows are a prefix of the numbers."""
    found = connection.execute(
        "SELECT stream, last, "
        "(SELECT MIN(seq) FROM outboxd_outbox o WHERE o.stream = s.stream), "
        "(SELECT MAX(seq) FROM outboxd_outbox o WHERE o.stream = s.stream) "
        "FROM outboxd_stream s ORDER BY stream"
    )
    return [Stream(*row) for row in found.fetchall()]


def outbox_oldest_at(connection: Connection, rows: Sequence[Stream]) -> float | None:
    """When the oldest unsettled row was committed (primary key)."""
    found = [
        connection.execute(
            "SELECT at FROM outboxd_outbox WHERE stream = ? AND seq = ?",
            (row.stream, row.first_row),
        ).fetchone()
        for row in rows
        if row.first_row is not None
    ]
    return min((row[0] for row in found if row is not None), default=None)


def delayed(connection: Connection) -> tuple[int, float | None]:
    """Delayed sends: how many, and when the first sets out (index outboxd_delayed_due)."""
    row: tuple[int, float | None] = connection.execute(
        "SELECT COUNT(*), MIN(due_at) FROM outboxd_delayed"
    ).fetchone()
    return row


def inbox_count(connection: Connection) -> InboxCount:
    """One pass over the inbox, which holds only what is not done."""
    row = connection.execute(
        "SELECT COUNT(*) FILTER (WHERE state = 'waiting' AND attempts = 0), "
        "COUNT(*) FILTER (WHERE state = 'waiting' AND attempts > 0), "
        "COUNT(*) FILTER (WHERE state = 'running'), "
        "COUNT(*) FILTER (WHERE state = 'held'), "
        "MIN(due_at) FILTER (WHERE state = 'waiting' AND attempts > 0) FROM outboxd_inbox"
    ).fetchone()
    return InboxCount(*row)


def open_letters(connection: Connection) -> tuple[int, float | None]:
    """Letters that wait for a person: how many, the oldest (index outboxd_dead_open)."""
    row: tuple[int, float | None] = connection.execute(
        "SELECT COUNT(*), MIN(at) FROM outboxd_dead WHERE state IN ('dead', 'replaying')"
    ).fetchone()
    return row


def open_sagas(connection: Connection) -> dict[str, int]:
    """State to number of open sagas (index outboxd_saga_open)."""
    found = connection.execute(
        "SELECT state, COUNT(*) FROM outboxd_saga WHERE ended_at IS NULL GROUP BY state"
    )
    return dict.fromkeys(OPEN, 0) | dict(found.fetchall())


def ended_total(connection: Connection) -> int:
    """How many sagas have ended (index outboxd_saga_ended alone: milliseconds for a million)."""
    count: int = connection.execute(
        "SELECT COUNT(*) FROM outboxd_saga WHERE ended_at IS NOT NULL"
    ).fetchone()[0]
    return count


class Ended(msgspec.Struct, frozen=True):
    """State to number of ended sagas, and the latest end among them."""

    counts: dict[str, int]
    last_at: float

    @property
    def total(self) -> int:
        return sum(self.counts.values())


NONE_ENDED = Ended(dict.fromkeys(ENDED, 0), float("-inf"))


def ended_since(connection: Connection, known: Ended = NONE_ENDED) -> Ended:
    """The ended sagas by state: ``known``, and what ended later (index outboxd_saga_ended)."""
    counts, last_at = dict(known.counts), known.last_at
    for state, number, latest in connection.execute(
        "SELECT state, COUNT(*), MAX(ended_at) FROM outboxd_saga WHERE ended_at > ? GROUP BY state",
        (known.last_at,),
    ).fetchall():
        counts[state] += number
        last_at = max(last_at, latest)
    return Ended(counts, last_at)


def next_timer(connection: Connection) -> tuple[float, str] | None:
    """The next deadline or end of a sleep, and which (index outboxd_call_due)."""
    row: tuple[float, str] | None = connection.execute(
        "SELECT due_at, CASE WHEN kind IN ('sleep', 'until') THEN 'sleep' ELSE 'deadline' END "
        "FROM outboxd_call "
        "WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1"
    ).fetchone()
    return row


def requests_pending(connection: Connection) -> int:
    """Requests in control.db that the daemon has not applied (index request_pending)."""
    count: int = connection.execute(
        "SELECT COUNT(*) FROM request WHERE state = 'pending'"
    ).fetchone()[0]
    return count
