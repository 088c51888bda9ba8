"""Sagas, their journals, and what they wait for."""

from __future__ import annotations

import re

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
    born: int = 0

    @property
    def sends_as(self) -> str:
        """What the ids of its messages begin with."""
        return sends_as(self.id, self.born)


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
    """What a saga waits for; without ``due_at`` its deadline is suspended.

    ``kind``: call, join, sleep, until or receive; ``key``: of the message that a receive waits for,
    None once that is here; ``stuck`` and ``detail``: why this step holds its saga, if it does.
    """

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
    kind: str = "call"
    key: str | None = None
    stuck: str | None = None
    detail: str | None = None

    @property
    def is_timer(self) -> bool:
        """Whether only time ends it."""
        return self.kind in ("sleep", "until")

    @property
    def is_here(self) -> bool:
        """Whether the message that a receive waits for has come, and is about to be handled."""
        return self.kind == "receive" and self.key is None

    @property
    def is_call(self) -> bool:
        """Whether somebody was asked something."""
        return self.kind in ("call", "join")


_SAGA = ", ".join(SagaRow.__struct_fields__)
_SAGA_PLACES = ", ".join("?" * len(SagaRow.__struct_fields__))
_CALL = ", ".join(CallRow.__struct_fields__)
_CALL_PLACES = ", ".join("?" * len(CallRow.__struct_fields__))


class Write(msgspec.Struct, frozen=True):
    """A statement that is collected over a batch; ``rank`` orders the statements of one flush."""

    rank: int
    sql: str


ADD_SAGA = Write(0, f"INSERT INTO outboxd_saga ({_SAGA}) VALUES ({_SAGA_PLACES})")
SAVE_SAGA = Write(
    1,
    "UPDATE outboxd_saga SET state = ?, is_forward = ?, step = ?, ending = ?, reason = ?, "
    "stuck = ?, detail = ?, moved_at = ?, ended_at = ?, result = ? WHERE id = ?",
)
OPEN_CALL = Write(2, f"INSERT INTO outboxd_call ({_CALL}) VALUES ({_CALL_PLACES})")
SAVE_CALL = Write(
    3,
    "UPDATE outboxd_call SET due_at = ?, sent_at = ?, repeats = ?, key = ?, stuck = ?, detail = ? "
    "WHERE saga = ? AND pos = ?",
)
CLOSE_CALL = Write(4, "DELETE FROM outboxd_call WHERE saga = ? AND pos = ?")
"""After the others: what a saga asks and takes back in one batch must not stay behind."""
APPEND = Write(5, "INSERT INTO outboxd_journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
ASK_UNDO = Write(
    6,
    "INSERT INTO outboxd_undo (saga, pos, id, name, state, at) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (saga, pos) DO UPDATE SET state = excluded.state, at = excluded.at",
)
NOTE_DEATH = Write(7, "UPDATE outboxd_undo SET died = ? WHERE saga = ? AND pos = ?")


_LIKE_A_ROUND = re.compile(r"@[0-9]+\Z")


def saga_id(participant: str, name: str, key: str, round_: int = 1) -> str:
    """(participant, saga, key) as one text; ``round_`` counts the starts with one key.

    The first round's number is left out, unless the key itself ends like one: so no two of them
    are called the same.
    """
    is_plain = round_ == 1 and _LIKE_A_ROUND.search(key) is None
    return f"{participant}/{name}/{key}" + ("" if is_plain else f"@{round_}")


def named(saga_id: str) -> tuple[str, str, str]:
    """(participant, saga, key) of a saga's id."""
    participant, _, rest = saga_id.partition("/")
    name, _, key = rest.partition("/")
    return participant, name, _LIKE_A_ROUND.sub("", key)


def sends_as(saga_id: str, born: int) -> str:
    """What the ids of a saga's messages begin with.

    Fences of an earlier saga with its key may outlive that: they must not answer for this one.
    """
    return f"{saga_id}~{born:x}" if born else saga_id


def saga_changes(row: SagaRow) -> tuple[object, ...]:
    """What can change of a saga, as SAVE_SAGA takes it."""
    return (
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
    )


def call_changes(row: CallRow) -> tuple[object, ...]:
    """What can change of what a saga waits for, as SAVE_CALL takes it."""
    return (
        row.due_at,
        row.sent_at,
        row.repeats,
        row.key,
        row.stuck,
        row.detail,
        row.saga,
        row.pos,
    )


def get_saga(connection: Connection, saga_id: str) -> SagaRow | None:
    row = connection.execute(
        f"SELECT {_SAGA} FROM outboxd_saga WHERE id = ?", (saga_id,)
    ).fetchone()
    return None if row is None else SagaRow(*row)


def counts(connection: Connection) -> dict[str, int]:
    """State to number of sagas (indexes outboxd_saga_open and outboxd_saga_ended alone)."""
    return dict(
        connection.execute(
            "SELECT state, COUNT(*) FROM outboxd_saga WHERE ended_at IS NULL GROUP BY state "
            "UNION ALL "
            "SELECT state, COUNT(*) FROM outboxd_saga WHERE ended_at IS NOT NULL GROUP BY state"
        ).fetchall()
    )


def last_round(connection: Connection, name: str, key: str) -> int:
    """The highest round above the first with a key, or 1 (index outboxd_saga_rounds)."""
    row = connection.execute(
        "SELECT MAX(round) FROM outboxd_saga WHERE name = ? AND key = ? AND round > 1", (name, key)
    ).fetchone()
    return row[0] or 1


def begun_by(connection: Connection, name: str, key: str, message_id: str) -> str | None:
    """The round above the first that a message began (index outboxd_saga_rounds)."""
    said = f'"id":{msgspec.json.encode(message_id).decode()},'
    row = connection.execute(
        "SELECT id FROM outboxd_saga WHERE name = ? AND key = ? AND round > 1 "
        "AND instr(CAST(start AS TEXT), ?) LIMIT 1",
        (name, key, said),
    ).fetchone()
    return None if row is None else row[0]


def length(connection: Connection, saga_id: str) -> int:
    """The number of the last row of a saga's journal (primary key range)."""
    row = connection.execute(
        "SELECT COALESCE(MAX(n), 0) FROM outboxd_journal WHERE saga = ?", (saga_id,)
    )
    found: int = row.fetchone()[0]
    return found


def rows(connection: Connection, saga_id: str) -> list[JournalRow]:
    """The whole journal of a saga, in order."""
    found = connection.execute(
        "SELECT n, kind, pos, name, mark, at, data FROM outboxd_journal WHERE saga = ? ORDER BY n",
        (saga_id,),
    )
    return [JournalRow(*row) for row in found.fetchall()]


def calls_of(connection: Connection, saga_id: str) -> list[CallRow]:
    found = connection.execute(
        f"SELECT {_CALL} FROM outboxd_call WHERE saga = ? ORDER BY pos", (saga_id,)
    )
    return [CallRow(*row) for row in found.fetchall()]


def undos_of(connection: Connection, saga_id: str) -> dict[int, str]:
    """Position to state of the undos asked for."""
    found = connection.execute("SELECT pos, state FROM outboxd_undo WHERE saga = ?", (saga_id,))
    return dict(found.fetchall())


def died_undos(connection: Connection, saga_id: str) -> dict[int, str]:
    """Position to reason of the undos that died and were not replayed since."""
    found = connection.execute(
        "SELECT pos, died FROM outboxd_undo WHERE saga = ? AND state = 'sent' "
        "AND died IS NOT NULL ORDER BY pos",
        (saga_id,),
    )
    return dict(found.fetchall())


def undo_name(connection: Connection, saga_id: str, pos: int) -> str:
    """The type of an undo that was asked for, as the database has it (primary key)."""
    row = connection.execute(
        "SELECT name FROM outboxd_undo WHERE saga = ? AND pos = ?", (saga_id, pos)
    ).fetchone()
    return "" if row is None else row[0]


def unanswered(connection: Connection, by: float, limit: int) -> list[tuple[str, int, str]]:
    """(saga, position, name) of undos asked for by then (index outboxd_undo_sent)."""
    found = connection.execute(
        "SELECT saga, pos, name FROM outboxd_undo WHERE state = 'sent' AND at <= ? "
        "ORDER BY at LIMIT ?",
        (by, limit),
    )
    return found.fetchall()


def first_unanswered(connection: Connection) -> float | None:
    """When the oldest undo without an answer was asked for (index outboxd_undo_sent)."""
    at: float | None = connection.execute(
        "SELECT MIN(at) FROM outboxd_undo WHERE state = 'sent'"
    ).fetchone()[0]
    return at


def add_waiter(connection: Connection, saga_id: str, message_id: str, body: bytes) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO outboxd_waiter VALUES (?, ?, ?)", (saga_id, message_id, body)
    )


def drop_waiter(connection: Connection, saga_id: str, message_id: str) -> None:
    """Somebody waits for this saga no more (primary key)."""
    connection.execute(
        "DELETE FROM outboxd_waiter WHERE saga = ? AND id = ?", (saga_id, message_id)
    )


def take_waiters(connection: Connection, saga_id: str) -> list[bytes]:
    """Removes and returns the further starts and the undos that wait for this saga's end."""
    found = connection.execute("SELECT body FROM outboxd_waiter WHERE saga = ?", (saga_id,))
    bodies = [row[0] for row in found.fetchall()]
    if bodies:
        connection.execute("DELETE FROM outboxd_waiter WHERE saga = ?", (saga_id,))
    return bodies
