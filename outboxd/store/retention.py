"""What is old and finished is removed, a bounded number of rows at a time."""

from __future__ import annotations

from collections import Counter

import msgspec

from outboxd.retry import DAY_S

from .connection import Connection

KEEP_S = 30 * DAY_S
"""How long finished sagas, fences, settled letters and seen foreign ids are kept."""

SAGAS = 250
LIMIT = 2000
"""Sagas, and rows per other table, of one call: a transaction stays short."""

_SAGA = (
    "DELETE FROM outboxd_journal WHERE saga = ?",
    "DELETE FROM outboxd_undo WHERE saga = ?",
    "DELETE FROM outboxd_saga WHERE id = ?",
)

_SETTLED = "SELECT n FROM outboxd_dead WHERE settled_at < ? ORDER BY settled_at LIMIT ?"

# What an effect did outside is remembered as long as its letter, unless that comes to life again.
_ONCE = (
    f"DELETE FROM outboxd_once WHERE id IN (SELECT id FROM outboxd_dead WHERE n IN ({_SETTLED})) "
    "AND NOT EXISTS (SELECT 1 FROM outboxd_inbox i WHERE i.id = outboxd_once.id) "
    "AND NOT EXISTS (SELECT 1 FROM outboxd_dead d WHERE d.id = outboxd_once.id "
    "AND d.state IN ('dead', 'replaying'))"
)

_OTHERS = (
    # A call that has started a saga is remembered as long as that saga is: its undo may still come.
    (
        "DELETE FROM outboxd_fence WHERE id IN (SELECT id FROM outboxd_fence WHERE at < ? AND NOT "
        "(state = 'started' AND EXISTS (SELECT 1 FROM outboxd_saga s "
        "WHERE s.id = json_extract(CAST(outboxd_fence.result AS TEXT), '$'))) LIMIT ?)"
    ),
    "DELETE FROM outboxd_early WHERE n IN (SELECT n FROM outboxd_early WHERE at < ? LIMIT ?)",
    (
        "DELETE FROM outboxd_seen WHERE (source, id) IN "
        "(SELECT source, id FROM outboxd_seen WHERE at < ? LIMIT ?)"
    ),
    (
        "DELETE FROM outboxd_attempt WHERE (id, n) IN (SELECT id, n FROM outboxd_attempt a "
        "WHERE at < ? AND NOT EXISTS (SELECT 1 FROM outboxd_inbox i WHERE i.id = a.id) "
        "AND NOT EXISTS (SELECT 1 FROM outboxd_dead d WHERE d.id = a.id "
        "AND d.state IN ('dead', 'replaying')) LIMIT ?)"
    ),
    (
        "DELETE FROM outboxd_applied WHERE id IN "
        "(SELECT id FROM outboxd_applied WHERE at < ? LIMIT ?)"
    ),
)


class Pruned(msgspec.Struct, frozen=True):
    """What one call removed; ``is_more``: there may be more.

    ``sagas``: id and state of each; ``letters``: how many of a (sender, kind) were counted as
    discarded or closed.
    """

    rows: int = 0
    is_more: bool = False
    sagas: list[tuple[str, str]] = []
    letters: dict[tuple[str, str], int] = {}


def prune(connection: Connection, before: float) -> Pruned:
    """Removes a part of what ended before ``before`` (UTC seconds)."""
    sagas: list[tuple[str, str]] = connection.execute(
        "SELECT id, state FROM outboxd_saga WHERE ended_at IS NOT NULL AND ended_at < ? LIMIT ?",
        (before, SAGAS),
    ).fetchall()
    ids = [(saga_id,) for saga_id, _ in sagas]
    rows = sum(connection.executemany(sql, ids).rowcount for sql in _SAGA) if ids else 0
    letters = _letters(connection, before)
    others = [connection.execute(sql, (before, LIMIT)).rowcount for sql in _OTHERS]
    return Pruned(
        rows + len(letters) + sum(others),
        len(sagas) == SAGAS or LIMIT in (len(letters), *others),
        sagas,
        Counter((sender, kind) for sender, kind, state in letters if state != "replayed"),
    )


def _letters(connection: Connection, before: float) -> list[tuple[str, str, str]]:
    """Settled letters are removed; returns (sender, kind, state) of each."""
    found: list[tuple[str, str, str]] = connection.execute(
        f"SELECT sender, kind, state FROM outboxd_dead WHERE n IN ({_SETTLED})", (before, LIMIT)
    ).fetchall()
    if found:
        connection.execute(_ONCE, (before, LIMIT))
        connection.execute(f"DELETE FROM outboxd_dead WHERE n IN ({_SETTLED})", (before, LIMIT))
    return found
