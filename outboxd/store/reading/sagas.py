"""Sagas, what they wait for, and what was done to them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from outboxd.store import journal
from outboxd.store.connection import Connection

from .amounts import OPEN
from .filters import Column, Condition, places

SAGA_COLUMNS = {
    "id": Column("id"),
    "key": Column("key"),
    "type": Column("name"),
    "step": Column("step"),
    "error": Column(
        "COALESCE(reason, '') || ' ' || COALESCE(stuck, '') || ' ' || COALESCE(detail, '')"
    ),
    "age": Column("(julianday('now') - 2440587.5) * 86400.0 - started_at", "number"),
}


class Instance(msgspec.Struct, frozen=True):
    """A saga without its journal; times are UTC seconds."""

    id: str
    name: str
    key: str
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
    born: int = 0

    @property
    def sends_as(self) -> str:
        """What the ids of its messages begin with."""
        return journal.sends_as(self.id, self.born)


class OpenCall(msgspec.Struct, frozen=True):
    """A step or an undo that a saga waits for. ``kind``: the step's, or undo; ``key``: of the
    message that a receive waits for, None once that is here.
    """

    saga: str
    pos: int
    id: str
    name: str
    to_name: str
    sent_at: float
    due_at: float | None
    repeats: int
    strict: int
    kind: str
    key: str | None

    @property
    def is_timer(self) -> bool:
        """Whether only time ends it."""
        return self.kind in ("sleep", "until")


_INSTANCE = ", ".join(Instance.__struct_fields__)
_CALL = ", ".join(OpenCall.__struct_fields__)


def saga(connection: Connection, saga_id: str) -> Instance | None:
    """One saga (primary key)."""
    row = connection.execute(
        f"SELECT {_INSTANCE} FROM outboxd_saga WHERE id = ?", (saga_id,)
    ).fetchone()
    return None if row is None else Instance(*row)


def awaited_by(connection: Connection, message_id: str) -> str | None:
    """The saga for whose end a message waits; reads the whole table, which is short."""
    row = connection.execute(
        "SELECT saga FROM outboxd_waiter WHERE id = ?", (message_id,)
    ).fetchone()
    return None if row is None else row[0]


def result(connection: Connection, saga_id: str) -> bytes | None:
    """What a completed saga returned, as JSON (primary key)."""
    row = connection.execute("SELECT result FROM outboxd_saga WHERE id = ?", (saga_id,)).fetchone()
    return None if row is None else row[0]


def start(connection: Connection, saga_id: str) -> bytes | None:
    """The message that started a saga (primary key)."""
    row = connection.execute("SELECT start FROM outboxd_saga WHERE id = ?", (saga_id,)).fetchone()
    return None if row is None else row[0]


def rounds(
    connection: Connection, participant: str, name: str, key: str
) -> list[tuple[str, bytes]]:
    """(id, start message) of all sagas with a key, in order, as far as they are remembered.

    The first by its id (primary key), the others by their index (outboxd_saga_rounds).
    """
    found: list[tuple[str, bytes]] = connection.execute(
        "SELECT id, start FROM ("
        "SELECT id, start, round FROM outboxd_saga WHERE id = ? UNION ALL "
        "SELECT id, start, round FROM outboxd_saga WHERE name = ? AND key = ? AND round > 1"
        ") ORDER BY round",
        (journal.saga_id(participant, name, key), name, key),
    ).fetchall()
    return found


def latest_names(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """(id, key) of the sagas that were started last (the table's own order)."""
    return connection.execute(
        "SELECT id, key FROM outboxd_saga ORDER BY rowid DESC LIMIT ?", (limit,)
    ).fetchall()


def saga_names(connection: Connection, participant: str) -> list[str]:
    """The kinds of sagas that have ever run here: one seek in the key for each."""
    names: list[str] = []
    low = f"{participant}/"
    while True:
        row = connection.execute(
            "SELECT name FROM outboxd_saga WHERE id >= ? ORDER BY id LIMIT 1", (low,)
        ).fetchone()
        if row is None or row[0] in names:
            return names
        names.append(row[0])
        low = f"{participant}/{row[0]}0"  # "0" follows "/"


def open_ids(connection: Connection) -> list[str]:
    """Every saga under way, the stuck ones last (index outboxd_saga_open)."""
    found = connection.execute(
        "SELECT id FROM outboxd_saga WHERE ended_at IS NULL ORDER BY state, started_at"
    )
    return [row[0] for row in found.fetchall()]


def open_sagas(
    connection: Connection, state: str, condition: Condition, limit: int
) -> list[Instance]:
    """Open sagas of a state, the oldest first (index outboxd_saga_open)."""
    sql, args = condition
    found = connection.execute(
        f"SELECT {_INSTANCE} FROM outboxd_saga WHERE ended_at IS NULL AND state = ? AND {sql} "
        "ORDER BY started_at LIMIT ?",
        (state, *args, limit),
    )
    return [Instance(*row) for row in found.fetchall()]


def ended_sagas(
    connection: Connection, states: Sequence[str], condition: Condition, limit: int
) -> list[Instance]:
    """Ended sagas of these states, the latest first (index outboxd_saga_ended)."""
    sql, args = condition
    found = connection.execute(
        f"SELECT {_INSTANCE} FROM outboxd_saga WHERE ended_at IS NOT NULL "
        f"AND state IN ({places(states)}) AND {sql} ORDER BY ended_at DESC LIMIT ?",
        (*states, *args, limit),
    )
    return [Instance(*row) for row in found.fetchall()]


def sagas_by_id(
    connection: Connection, state: str, ids: Sequence[str], condition: Condition
) -> list[Instance]:
    """Those of ``ids`` that are here, in that state, and match (primary key)."""
    sql, args = condition
    found = connection.execute(
        f"SELECT {_INSTANCE} FROM outboxd_saga WHERE id IN ({places(ids)}) AND state = ? AND {sql}",
        (*ids, state, *args),
    )
    return [Instance(*row) for row in found.fetchall()]


def existing(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Those of ``ids`` that are sagas here (primary key)."""
    found = connection.execute(f"SELECT id FROM outboxd_saga WHERE id IN ({places(ids)})", ids)
    return [row[0] for row in found.fetchall()]


def count_sagas(connection: Connection, states: Sequence[str], condition: Condition) -> int:
    """How many are in these states and match (index outboxd_saga_open; one pass of the ended)."""
    sql, args = condition
    total = 0
    for is_open, chosen in (
        ("ended_at IS NULL", [state for state in states if state in OPEN]),
        ("ended_at IS NOT NULL", [state for state in states if state not in OPEN]),
    ):
        if chosen:
            total += connection.execute(
                f"SELECT COUNT(*) FROM outboxd_saga WHERE {is_open} "
                f"AND state IN ({places(chosen)}) AND {sql}",
                (*chosen, *args),
            ).fetchone()[0]
    return total


def overdue_sagas(connection: Connection, now: float, limit: int) -> list[str]:
    """Sagas whose deadline has passed (index outboxd_call_due)."""
    found = connection.execute(
        "SELECT DISTINCT saga FROM outboxd_call WHERE due_at < ? ORDER BY due_at LIMIT ?",
        (now, limit),
    )
    return [row[0] for row in found.fetchall()]


def calls(connection: Connection, sagas: Sequence[str]) -> list[OpenCall]:
    """What these sagas wait for: calls and sleeps, then undos (primary keys)."""
    found = connection.execute(
        f"SELECT {_CALL} FROM outboxd_call WHERE saga IN ({places(sagas)}) ORDER BY saga, pos",
        sagas,
    ).fetchall()
    undos = connection.execute(
        "SELECT saga, pos, id, name, '', at, NULL, 0, 0, 'undo', NULL FROM outboxd_undo "
        f"WHERE saga IN ({places(sagas)}) AND state = 'sent' ORDER BY saga, pos DESC",
        sagas,
    )
    return [OpenCall(*row) for row in (*found, *undos.fetchall())]


def undo_states(connection: Connection, saga_id: str) -> dict[int, str]:
    """Position to state of the undos that a saga has asked for (primary key)."""
    found = connection.execute("SELECT pos, state FROM outboxd_undo WHERE saga = ?", (saga_id,))
    return dict(found.fetchall())
