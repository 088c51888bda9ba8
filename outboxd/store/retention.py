"""What is old and finished is removed, a bounded number of rows at a time."""

from __future__ import annotations

from .connection import Connection

LIMIT = 5000
"""Rows per table and call: a transaction stays short."""

_ENDED = "SELECT id FROM outboxd_saga WHERE ended_at IS NOT NULL AND ended_at < ? LIMIT ?"

_PRUNE = (
    f"DELETE FROM outboxd_journal WHERE saga IN ({_ENDED})",
    f"DELETE FROM outboxd_undo WHERE saga IN ({_ENDED})",
    f"DELETE FROM outboxd_saga WHERE id IN ({_ENDED})",
    # A call that has started a saga is remembered as long as that saga is: its undo may still come.
    (
        "DELETE FROM outboxd_fence WHERE id IN (SELECT id FROM outboxd_fence WHERE at < ? AND NOT "
        "(state = 'started' AND EXISTS (SELECT 1 FROM outboxd_saga s "
        "WHERE s.id = json_extract(outboxd_fence.result, '$'))) LIMIT ?)"
    ),
    "DELETE FROM outboxd_early WHERE n IN (SELECT n FROM outboxd_early WHERE at < ? LIMIT ?)",
    (
        "DELETE FROM outboxd_seen WHERE (source, id) IN "
        "(SELECT source, id FROM outboxd_seen WHERE at < ? LIMIT ?)"
    ),
    (
        "DELETE FROM outboxd_attempt WHERE (id, n) IN (SELECT id, n FROM outboxd_attempt "
        "WHERE at < ? AND id NOT IN (SELECT id FROM outboxd_inbox) AND id NOT IN "
        "(SELECT id FROM outboxd_dead WHERE state IN ('dead', 'replaying')) LIMIT ?)"
    ),
)


def prune(connection: Connection, before: float) -> int:
    """Removes finished sagas, fences and seen ids older than ``before``; returns the row count."""
    return sum(connection.execute(sql, (before, LIMIT)).rowcount for sql in _PRUNE)
