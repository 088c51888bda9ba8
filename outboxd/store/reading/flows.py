"""How fast things move: counters that only grow, the oldest that waits, and what steps took."""

from __future__ import annotations

import msgspec

from outboxd.store.connection import Connection


class Accepted(msgspec.Struct, frozen=True):
    """What a store has accepted of all senders, and how much of it is done."""

    accepted: int
    done: int


class Fault(msgspec.Struct, frozen=True):
    """The latest failed attempt."""

    at: float
    error: str


def accepted(connection: Connection) -> Accepted:
    """Counters of this copy of the data; the rows are as many as senders."""
    row = connection.execute(
        "SELECT COALESCE(SUM(accepted - since), 0), COALESCE(SUM(done), 0) FROM outboxd_sender"
    ).fetchone()
    return Accepted(*row)


def inbox_oldest_at(connection: Connection) -> float | None:
    """Since when the message that is longest here waits: the first row that is not held."""
    row = connection.execute(
        "SELECT at FROM outboxd_inbox WHERE state <> 'held' ORDER BY n LIMIT 1"
    ).fetchone()
    return None if row is None else row[0]


def timers(connection: Connection) -> tuple[int, float | None]:
    """Deadlines and sleeps: how many, and the next (index outboxd_call_due)."""
    row: tuple[int, float | None] = connection.execute(
        "SELECT COUNT(*), MIN(due_at) FROM outboxd_call WHERE due_at IS NOT NULL"
    ).fetchone()
    return row


def ended_per_second(connection: Connection, since: float) -> list[tuple[int, str, int]]:
    """(second, state, sagas that ended in it) since then (index outboxd_saga_ended)."""
    found = connection.execute(
        "SELECT CAST(ended_at AS INTEGER) AS second, state, COUNT(*) FROM outboxd_saga "
        "WHERE ended_at > ? GROUP BY second, state",
        (since,),
    )
    return found.fetchall()


def call_spans(connection: Connection, sagas: int) -> list[tuple[str, float]]:
    """(command, seconds to its answer) in the sagas that ended last (outboxd_saga_ended, keys)."""
    found = connection.execute(
        "SELECT opened.name, answered.at - opened.at FROM "
        "(SELECT id FROM outboxd_saga WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT ?) s "
        "JOIN outboxd_journal opened ON opened.saga = s.id AND opened.kind = 'call' "
        "JOIN outboxd_journal answered ON answered.saga = s.id AND answered.pos = opened.pos "
        "AND answered.kind IN ('ok', 'rejected')",
        (sagas,),
    )
    return found.fetchall()


def last_fault(connection: Connection) -> Fault | None:
    """The latest error of what is in the inbox, or else of the letters."""
    row = connection.execute(
        "SELECT at, error FROM outboxd_inbox WHERE error IS NOT NULL AND attempts > 0 "
        "ORDER BY n DESC LIMIT 1"
    ).fetchone()
    if row is None:
        row = connection.execute(
            "SELECT at, error_type || ': ' || error FROM outboxd_dead "
            "WHERE state IN ('dead', 'replaying') ORDER BY n DESC LIMIT 1"
        ).fetchone()
    return None if row is None else Fault(*row)
