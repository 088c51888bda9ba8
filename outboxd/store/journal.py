"""Sagas, their journals, and what they wait for."""

from __future__ import annotations

import msgspec

from .connection import Connection


class SagaRow(msgspec.Struct):
    """One saga instance; times are UTC seconds. ``round`` counts its starts with one key."""

    id: str
    name: str
    key: str
    round: int
    version: int
    state: str
    is_forward: int
    step: str | None
    ending: str | None
    reason: str | None
    stuck: str | None
    detail: str | None
    started_at: float
    moved_at: float
    ended_at: float | None
    result: bytes | None
    start: bytes


class JournalRow(msgspec.Struct, frozen=True):
    """One thing that a saga asked for, got, or had done to it."""

    n: int
    kind: str
    pos: int
    name: str
    mark: int
    at: float
    data: bytes | None


class CallRow(msgspec.Struct):
    """An open call or sleep; without ``due_at`` its deadline is suspended."""

    saga: str
    pos: int
    id: str
    name: str
    to_name: str
    sent_at: float
    span_s: float
    due_at: float | None
    strict: int
    on_dead: str
    repeats: int


_SAGA = ", ".join(SagaRow.__struct_fields__)
_SAGA_PLACES = ", ".join("?" * len(SagaRow.__struct_fields__))
_CALL = ", ".join(CallRow.__struct_fields__)
_CALL_PLACES = ", ".join("?" * len(CallRow.__struct_fields__))


def add_saga(connection: Connection, row: SagaRow) -> None:
    connection.execute(
        f"INSERT INTO outboxd_saga ({_SAGA}) VALUES ({_SAGA_PLACES})", msgspec.structs.astuple(row)
    )


def get_saga(connection: Connection, saga_id: str) -> SagaRow | None:
    row = connection.execute(
        f"SELECT {_SAGA} FROM outboxd_saga WHERE id = ?", (saga_id,)
    ).fetchone()
    return None if row is None else SagaRow(*row)


def save_saga(connection: Connection, row: SagaRow) -> None:
    """Writes what can change of a saga."""
    connection.execute(
        "UPDATE outboxd_saga SET state = ?, is_forward = ?, step = ?, ending = ?, reason = ?, "
        "stuck = ?, detail = ?, moved_at = ?, ended_at = ?, result = ? WHERE id = ?",
        (
            row.state,
            row.is_forward,
            row.step,
            row.ending,
            row.reason,
            row.stuck,
            row.detail,
            row.moved_at,
            row.ended_at,
            row.result,
            row.id,
        ),
    )


def append(
    connection: Connection,
    saga_id: str,
    kind: str,
    pos: int,
    name: str,
    mark: int,
    at: float,
    data: bytes | None = None,
) -> None:
    """Adds one row; its number follows the last one's (primary key range)."""
    connection.execute(
        "INSERT INTO outboxd_journal SELECT ?1, COALESCE(MAX(n), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7 "
        "FROM outboxd_journal WHERE saga = ?1",
        (saga_id, kind, pos, name, mark, at, data),
    )


def rows(connection: Connection, saga_id: str) -> list[JournalRow]:
    """The whole journal of a saga, in order."""
    found = connection.execute(
        "SELECT n, kind, pos, name, mark, at, data FROM outboxd_journal WHERE saga = ? ORDER BY n",
        (saga_id,),
    )
    return [JournalRow(*row) for row in found.fetchall()]


def open_call(connection: Connection, call: CallRow) -> None:
    connection.execute(
        f"INSERT INTO outboxd_call ({_CALL}) VALUES ({_CALL_PLACES})", msgspec.structs.astuple(call)
    )


def get_call(connection: Connection, saga_id: str, pos: int) -> CallRow | None:
    row = connection.execute(
        f"SELECT {_CALL} FROM outboxd_call WHERE saga = ? AND pos = ?", (saga_id, pos)
    ).fetchone()
    return None if row is None else CallRow(*row)


def calls_of(connection: Connection, saga_id: str) -> list[CallRow]:
    found = connection.execute(
        f"SELECT {_CALL} FROM outboxd_call WHERE saga = ? ORDER BY pos", (saga_id,)
    )
    return [CallRow(*row) for row in found.fetchall()]


def save_call(connection: Connection, call: CallRow) -> None:
    connection.execute(
        "UPDATE outboxd_call SET due_at = ?, sent_at = ?, repeats = ? WHERE saga = ? AND pos = ?",
        (call.due_at, call.sent_at, call.repeats, call.saga, call.pos),
    )


def close_call(connection: Connection, saga_id: str, pos: int) -> None:
    connection.execute("DELETE FROM outboxd_call WHERE saga = ? AND pos = ?", (saga_id, pos))


def undos_of(connection: Connection, saga_id: str) -> dict[int, str]:
    """Position to state of the undos asked for."""
    found = connection.execute("SELECT pos, state FROM outboxd_undo WHERE saga = ?", (saga_id,))
    return dict(found.fetchall())


def ask_undo(
    connection: Connection, saga_id: str, pos: int, message_id: str, name: str, state: str, at: float
) -> None:
    connection.execute(
        "INSERT INTO outboxd_undo VALUES (?1, ?2, ?3, ?4, ?5, ?6) "
        "ON CONFLICT (saga, pos) DO UPDATE SET state = ?5, at = ?6",
        (saga_id, pos, message_id, name, state, at),
    )


def add_waiter(connection: Connection, saga_id: str, message_id: str, body: bytes) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO outboxd_waiter VALUES (?, ?, ?)", (saga_id, message_id, body)
    )


def take_waiters(connection: Connection, saga_id: str) -> list[bytes]:
    """Removes and returns the further starts that wait for this saga's result."""
    found = connection.execute("SELECT body FROM outboxd_waiter WHERE saga = ?", (saga_id,))
    bodies = [row[0] for row in found.fetchall()]
    if bodies:
        connection.execute("DELETE FROM outboxd_waiter WHERE saga = ?", (saga_id,))
    return bodies
