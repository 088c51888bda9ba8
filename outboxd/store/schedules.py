"""Schedules: when each fires next, and how often it has; a handful of rows."""

from __future__ import annotations

import msgspec

from .connection import Connection


class Planned(msgspec.Struct):
    """One schedule's row; ``due_at`` None: the code has it no more."""

    name: str
    spec: str
    due_at: float | None
    fired: int
    fired_at: float | None


def everything(connection: Connection) -> list[Planned]:
    rows = connection.execute(
        "SELECT name, spec, due_at, fired, fired_at FROM outboxd_schedule ORDER BY name"
    )
    return [Planned(*row) for row in rows.fetchall()]


def save(connection: Connection, row: Planned) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO outboxd_schedule VALUES (?, ?, ?, ?, ?)",
        (row.name, row.spec, row.due_at, row.fired, row.fired_at),
    )


def next_due(connection: Connection) -> float | None:
    due: float | None = connection.execute("SELECT MIN(due_at) FROM outboxd_schedule").fetchone()[0]
    return due


def is_there(connection: Connection) -> bool:
    """Whether the table is: a database that an older outboxd wrote last has none."""
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'outboxd_schedule'"
    return connection.execute(sql).fetchone() is not None
