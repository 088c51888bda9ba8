"""What became of the firings of a schedule: those that are tried again, and those that died."""

from __future__ import annotations

import msgspec

from outboxd.store.connection import Connection


class Firings(msgspec.Struct, frozen=True):
    """The last one that died and waits for a person; the error of that, or of one that retries."""

    letter: int | None
    error: str | None


def firings(connection: Connection, prefix: str) -> Firings:
    """Of those whose id begins with ``prefix``, which ends in # (indexes on id)."""
    span = (prefix, f"{prefix[:-1]}$")  # "$" follows "#"
    dead = connection.execute(
        "SELECT n, error_type || ': ' || error FROM outboxd_dead WHERE id > ? AND id < ? "
        "AND kind = 'local' AND state IN ('dead', 'replaying') ORDER BY n DESC LIMIT 1",
        span,
    ).fetchone()
    if dead is not None:
        return Firings(*dead)
    failed = connection.execute(
        "SELECT error FROM outboxd_inbox WHERE id > ? AND id < ? "
        "AND kind = 'local' AND attempts > 0 ORDER BY n DESC LIMIT 1",
        span,
    ).fetchone()
    return Firings(None, None if failed is None else failed[0] or "")
