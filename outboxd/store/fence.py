"""Fences: what became of each call, so that an undo knows its step and a closed step never runs."""

from __future__ import annotations

import msgspec

from .connection import Connection


class Fence(msgspec.Struct, frozen=True):
    """``state``: started (a saga), done, closed or undone; ``result``: the reply as JSON."""

    state: str
    result: bytes | None


def get(connection: Connection, step_id: str) -> Fence | None:
    row = connection.execute(
        "SELECT state, result FROM outboxd_fence WHERE id = ?", (step_id,)
    ).fetchone()
    return None if row is None else Fence(*row)


def put(
    connection: Connection, step_id: str, state: str, at: float, result: bytes | None = None
) -> None:
    """Sets the fence; a recorded result stays when its step is undone."""
    connection.execute(
        "INSERT INTO outboxd_fence VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "state = excluded.state, at = excluded.at, result = COALESCE(excluded.result, result)",
        (step_id, state, at, result),
    )
