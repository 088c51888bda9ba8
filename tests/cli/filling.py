"""Fills a data directory through the store's functions, as a runtime would have left it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outboxd.datadir import claimed
from outboxd.message import Envelope, encode, encode_raw, events_stream, in_stream
from outboxd.store import control, meta, schema
from outboxd.store.connection import Connection, open_writer
from outboxd.store.control import CatalogEntry

MINUTE = 60.0
HOUR = 3600.0
EPOCH = 1000


def this_second() -> float:
    """Whole seconds: what goes through a datetime comes back the same."""
    return float(int(time.time()))


_at = this_second()


def now() -> float:
    """The moment at which everything is filled in; each test has its own (conftest).

    What a command shows is judged by the real clock, and this module was imported long ago.
    """
    return _at


class Still:
    """A clock that stands at ``now``."""

    def now(self) -> float:
        return now()

    def monotonic(self) -> float:
        return 0.0


@contextmanager
def store(data: Path, name: str) -> Iterator[Connection]:
    """The writer of a participant's database, made if it is missing; commits at the end."""
    data.mkdir(exist_ok=True)
    connection = open_writer(data / f"{name}.db")
    try:
        connection.execute("BEGIN IMMEDIATE")
        schema.migrate_own(connection)
        meta.identity(connection, EPOCH / 1000)
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()


@contextmanager
def control_db(data: Path) -> Iterator[Connection]:
    """The daemon's connection to control.db."""
    data.mkdir(exist_ok=True)
    connection = open_writer(data / control.FILE)
    try:
        control.prepare(connection)
        yield connection
    finally:
        connection.close()


def catalog(data: Path, *entries: CatalogEntry) -> None:
    """Writes the catalog, by default that of a small shop."""
    schema_of_order = {
        "$ref": "#/$defs/PlaceOrder",
        "$defs": {"PlaceOrder": {"properties": {"order_id": {"type": "string"}}}},
    }
    usual = (
        CatalogEntry(
            type="PlaceOrder",
            participant="orders",
            kind="saga",
            key_field="order_id",
            schema=json.dumps(schema_of_order).encode(),
        ),
        CatalogEntry(
            type="AuthorizePayment", participant="payments", kind="command", key_field="order_id"
        ),
        CatalogEntry(type="VoidPayment", participant="payments", kind="command"),
    )
    with control_db(data) as connection:
        control.put_catalog(connection, entries or usual)


@contextmanager
def daemon(data: Path, **overrides: Any) -> Iterator[None]:
    """The lock and the note of a daemon that lives, as this process."""
    note: dict[str, Any] = {
        "pid": os.getpid(),
        "node": "node-7",
        "started_at": time.time() - 3 * HOUR,
        "at": time.time(),
        "version": "0.1.0",
        "redis": "redis://127.0.0.1:6379",
        "broker": {"state": "up", "since": time.time() - HOUR, "error": None},
        "participants": ["orders", "payments"],
        "problems": [],
    }
    with claimed(data):
        (data / "daemon.json").write_text(json.dumps(note | overrides))
        yield


def envelope(message_id: str, type_name: str, **fields: Any) -> bytes:
    """A message as it lies in inbox, outbox or letter."""
    data = fields.pop("data", {"order_id": "1"})
    return encode(
        Envelope(
            specversion="1.0",
            id=message_id,
            type=type_name,
            source=fields.pop("source", "orders"),
            time=datetime.fromtimestamp(now(), UTC),
            data=encode_raw(data),
            **fields,
        )
    )


def insert(connection: Connection, table: str, **columns: Any) -> int:
    """One row; returns its rowid. The schema is the contract, not the functions that write it."""
    names, places = ", ".join(columns), ", ".join("?" * len(columns))
    cursor = connection.execute(
        f"INSERT INTO outboxd_{table} ({names}) VALUES ({places})", tuple(columns.values())
    )
    return cursor.lastrowid or 0


def saga(connection: Connection, key: str, state: str = "running", **fields: Any) -> str:
    """A saga of orders; returns its id."""
    ended = state in ("completed", "compensated", "cancelled")
    row = {
        "id": f"orders/fulfil/{key}",
        "name": "fulfil",
        "key": key,
        "round": 1,
        "version": 1,
        "state": state,
        "step": None if ended else "AuthorizePayment",
        "ending": state if ended else None,
        "started_at": now() - HOUR,
        "moved_at": now() - MINUTE,
        "ended_at": now() - MINUTE if ended else None,
        "result": b'{"shipment":"s-1"}' if state == "completed" else None,
        "start": envelope(f"m-{key}", "PlaceOrder", subject=key),
    } | fields
    insert(connection, "saga", **row)
    return str(row["id"])


def journal(
    connection: Connection,
    saga_id: str,
    kind: str,
    pos: int,
    name: str,
    at: float,
    data: Any = None,
) -> None:
    """The next row of a saga's journal."""
    n = connection.execute(
        "SELECT COUNT(*) + 1 FROM outboxd_journal WHERE saga = ?", (saga_id,)
    ).fetchone()[0]
    body = None if data is None else json.dumps(data).encode()
    insert(
        connection,
        "journal",
        saga=saga_id,
        n=n,
        kind=kind,
        pos=pos,
        name=name,
        mark=0,
        at=at,
        data=body,
    )


def call(connection: Connection, saga_id: str, pos: int = 2, **fields: Any) -> str:
    """An open call of a saga, with its journal; returns its message's id."""
    row: dict[str, Any] = {
        "saga": saga_id,
        "pos": pos,
        "id": f"{saga_id}#{pos}",
        "name": "AuthorizePayment",
        "to_name": "payments",
        "sent_at": now() - MINUTE,
        "span_s": 3 * MINUTE,
        "due_at": now() + 2 * MINUTE,
        "strict": 0,
        "on_dead": "hold",
        "kind": "call",
    } | fields
    journal(connection, saga_id, "run", 1, "create_order", now() - 2 * MINUTE)
    journal(connection, saga_id, row["kind"], pos, row["name"], row["sent_at"])
    insert(connection, "call", **row)
    return str(row["id"])


def undo(connection: Connection, saga_id: str, pos: int = 2, name: str = "VoidPayment") -> str:
    """An undo that was sent and is not answered; returns its message's id."""
    message_id = f"{saga_id}#{pos}~undo"
    insert(
        connection,
        "undo",
        saga=saga_id,
        pos=pos,
        id=message_id,
        name=name,
        state="sent",
        at=now() - 5,
    )
    return message_id


def held(connection: Connection, message_id: str, **fields: Any) -> int:
    """A row of an inbox; returns its number."""
    row = {
        "lane": "orders|in|1",
        "id": message_id,
        "sender": "orders",
        "kind": "in",
        "type": "AuthorizePayment",
        "key": "1",
        "state": "waiting",
        "at": now() - MINUTE,
        "due_at": now() + MINUTE,
        "body": envelope(message_id, "AuthorizePayment"),
    } | fields
    return insert(connection, "inbox", **row)


def letter(connection: Connection, message_id: str, **fields: Any) -> int:
    """A dead letter; returns its number."""
    row = {
        "id": message_id,
        "sender": "orders",
        "kind": "in",
        "type": "AuthorizePayment",
        "key": "1",
        "handler": "payments.authorize",
        "state": "dead",
        "attempts": 5,
        "first_at": now() - 2 * HOUR,
        "at": now() - HOUR,
        "error_type": "CardTimeout",
        "error": "no answer from card-gw after 5.0 s",
        "traceback": (
            "Traceback (most recent call last):\n"
            '  File "plugins/payments.py", line 52, in authorize\n'
            "CardTimeout: no answer from card-gw after 5.0 s\n"
        ),
        "body": envelope(message_id, "AuthorizePayment", subject="1", data={"order_id": "1"}),
    } | fields
    return insert(connection, "dead", **row)


def attempt(connection: Connection, message_id: str, n: int, outcome: str) -> None:
    """A failed attempt."""
    insert(
        connection,
        "attempt",
        id=message_id,
        n=n,
        at=now() - HOUR + n,
        took_s=5.0,
        outcome=outcome,
        error="CardTimeout: no answer from card-gw after 5.0 s",
        traceback="Traceback …",
    )


def accepted(connection: Connection, number: int, done: int, **fields: Any) -> None:
    """A receiver's account of a sender."""
    row = {"sender": "orders", "kind": "in", "epoch": EPOCH, "since": 0} | fields
    insert(connection, "sender", accepted=number, done=done, **row)


def sent(
    connection: Connection,
    numbers: int,
    *,
    to: str = "payments",
    settled: int = 0,
    kind: str = "in",
) -> None:
    """So many messages on a stream, the first ``settled`` of them gone from the outbox again."""
    stream = in_stream(to) if kind == "in" else events_stream(to)
    insert(connection, "stream", stream=stream, last=numbers)
    for seq in range(settled + 1, numbers + 1):
        body = envelope(f"{to}-{seq}", "AuthorizePayment")
        insert(
            connection, "outbox", stream=stream, seq=seq, id=f"{to}-{seq}", at=now() - 30, body=body
        )


def a_shop(data: Path) -> None:
    """Two participants in trouble: what a person would look at."""
    catalog(data)
    with store(data, "orders") as connection:
        sent(connection, 8, settled=7)
        detail = "payments/d-1: CardTimeout: no answer"
        stuck = saga(connection, "10431", "stuck", stuck="letter", detail=detail)
        call(connection, stuck, due_at=None)
        call(connection, saga(connection, "10519"))
        call(connection, saga(connection, "10388"), due_at=now() - MINUTE)
        asleep = saga(connection, "10401", step="sleep 7200s")
        call(connection, asleep, name="sleep", kind="sleep", to_name="", due_at=now() + 2 * HOUR)
        call(connection, saga(connection, "10530"))
        reason = "AuthorizePayment: over the limit"
        undone = saga(connection, "10502", "compensating", reason=reason, step="undo VoidPayment")
        undo(connection, undone)
        done = saga(connection, "10300", "completed")
        journal(connection, done, "call", 1, "AuthorizePayment", now() - 2 * MINUTE)
        journal(connection, done, "ok", 1, "AuthorizePayment", now() - MINUTE, {"cents": 4990})
        journal(connection, done, "ended", 0, "completed", now() - MINUTE)
        saga(connection, "10301", "compensated", reason=reason, ended_at=now() - 2 * MINUTE)
    with store(data, "payments") as connection:
        accepted(connection, 7, 3)
        message_id = f"{stuck}#2"
        letter(connection, message_id, key="10431")
        for n, outcome in enumerate(("again in 2.00 s", "again in 4.00 s", "gave up"), 1):
            attempt(connection, message_id, n, outcome)
        held(
            connection,
            "orders/fulfil/10519#2",
            key="10519",
            lane="orders|in|10519",
            attempts=3,
            due_at=now() + 12,
            error="CardTimeout: no answer from card-gw after 5.0 s",
        )
        held(
            connection,
            "orders/fulfil/10530#2",
            key="10530",
            lane="orders|in|10530",
            attempts=1,
            state="running",
            started_at=now() - 2,
        )
        held(connection, f"{undone}#2~undo", type="VoidPayment", lane="orders|in|10502")
