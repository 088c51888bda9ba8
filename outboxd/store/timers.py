"""What falls due: deadlines of calls and ends of sleeps; and time that forgives outages."""

from __future__ import annotations

from .connection import Connection


def due(
    connection: Connection, now: float, limit: int, *, sleeps_only: bool
) -> list[tuple[str, int]]:
    """(saga, position) of open calls and sleeps whose time has come (index outboxd_call_due)."""
    only = "AND kind IN ('sleep', 'until')" if sleeps_only else ""
    found = connection.execute(
        f"SELECT saga, pos FROM outboxd_call WHERE due_at <= ? {only} ORDER BY due_at LIMIT ?",
        (now, limit),
    )
    return found.fetchall()


def next_due(connection: Connection) -> float | None:
    """When the next one falls due (index outboxd_call_due)."""
    first: float | None = connection.execute(
        "SELECT MIN(due_at) FROM outboxd_call WHERE due_at IS NOT NULL"
    ).fetchone()[0]
    return first


def forgive(connection: Connection, gap_s: float, now: float) -> int:
    """Moves the deadlines of calls on by an outage; strict ones and sleeps count it in.

    A call that was made during the outage gets back no more than it has waited. Undos and repeated
    calls have a budget that does not count the time away either.
    """
    connection.execute(
        "UPDATE outboxd_undo SET at = MIN(?, at + ?) WHERE state = 'sent'", (now, gap_s)
    )
    return connection.execute(
        "UPDATE outboxd_call SET due_at = due_at + MIN(?, MAX(0, ? - (due_at - span_s))), "
        "sent_at = MIN(?, sent_at + ?) "
        "WHERE due_at IS NOT NULL AND strict = 0 AND kind NOT IN ('sleep', 'until')",
        (gap_s, now, now, gap_s),
    ).rowcount


def shift(connection: Connection, jump_s: float) -> None:
    """Moves every time that others are measured from along with a jump of the wall clock."""
    connection.execute(
        # A moment of the wall clock is where it was.
        "UPDATE outboxd_call SET due_at = due_at + ?, sent_at = sent_at + ? WHERE kind <> 'until'",
        (jump_s, jump_s),
    )
    for table, column in (
        ("outboxd_undo", "at"),
        ("outboxd_inbox", "due_at"),
        ("outboxd_inbox", "at"),
        ("outboxd_inbox", "started_at"),
        ("outboxd_delayed", "due_at"),
    ):
        connection.execute(
            f"UPDATE {table} SET {column} = {column} + ? WHERE {column} IS NOT NULL", (jump_s,)
        )
