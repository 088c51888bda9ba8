"""Requests that were applied here: the audit trail, and why a second application is harmless."""

from __future__ import annotations

from typing import Protocol

from .connection import Connection


class Asked(Protocol):
    """What is recorded of a request."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def who(self) -> str: ...
    @property
    def reason(self) -> str: ...


def get(connection: Connection, request_id: str) -> str | None:
    """What came of a request, or None if it was never applied here."""
    row = connection.execute(
        "SELECT result FROM outboxd_applied WHERE id = ?", (request_id,)
    ).fetchone()
    return None if row is None else row[0]


def add(connection: Connection, asked: Asked, at: float, result: str) -> None:
    connection.execute(
        "INSERT INTO outboxd_applied VALUES (?, ?, ?, ?, ?, ?, ?)",
        (asked.id, at, asked.kind, asked.target, asked.who, asked.reason, result),
    )
