"""Who reads this participant's events; its outbox keeps them until each of these holds them."""

from __future__ import annotations

from .connection import Connection


def add(connection: Connection, name: str, since: int, at: float) -> int:
    """Adds a subscriber, or keeps the one that is there; returns after which number it begins."""
    connection.execute(
        "INSERT OR IGNORE INTO outboxd_subscriber VALUES (?, ?, ?)", (name, since, at)
    )
    row = connection.execute("SELECT since FROM outboxd_subscriber WHERE name = ?", (name,))
    found: int = row.fetchone()[0]
    return found


def remove(connection: Connection, name: str) -> bool:
    """Whether there was such a subscriber."""
    rows = connection.execute("DELETE FROM outboxd_subscriber WHERE name = ?", (name,)).rowcount
    return rows == 1


def names(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM outboxd_subscriber ORDER BY name")
    return [row[0] for row in rows.fetchall()]
