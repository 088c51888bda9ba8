"""Fills a data directory through the store's functions, as a runtime would have left it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from outboxd.message import Envelope, encode, encode_raw, events_stream, in_stream
from outboxd.store import control, dead, inbox, journal, meta, outbox, schema
from outboxd.store.connection import Connection, open_writer
from outboxd.store.control import CatalogEntry
from outboxd.store.dead import Letter
from outboxd.store.inbox import Held, Sender
from outboxd.store.journal import CallRow, SagaRow

NOW = time.time()
MINUTE = 60.0
HOUR = 3600.0


@contextmanager
def store(data: Path, name: str) -> Iterator[Connection]:
    """The writer of a participant's database, made if it is missing; commits at the end."""
    data.mkdir(exist_ok=True)
    connection = open_writer(data / f"{name}.db")
    try:
        connection.execute("BEGIN IMMEDIATE")
        schema.migrate_own(connection)
        meta.identity(connection, 1.0)
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


def daemon(data: Path, **overrides: Any) -> None:
    """The note of a daemon that lives, as this process."""
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
    (data / "daemon.json").write_text(json.dumps(note | overrides))


def envelope(message_id: str, type_name: str, **fields: Any) -> bytes:
    """A message as it lies in inbox, outbox or letter."""
    data = fields.pop("data", {"order_id": "1"})
    return encode(
        Envelope(
            specversion="1.0",
            id=message_id,
            type=type_name,
            source=fields.pop("source", "orders"),
            time=datetime.fromtimestamp(NOW, timezone.utc),
            data=encode_raw(data),
            **fields,
        )
    )


def saga(connection: Connection, key: str, state: str = "running", **fields: Any) -> str:
    """A saga of orders; returns its id."""
    ended = state in ("completed", "compensated", "cancelled")
    row = SagaRow(
        id=f"orders/fulfil/{key}",
        name="fulfil",
        key=key,
        round=1,
        version=1,
        state=state,
        is_forward=0,
        step=None if ended else "AuthorizePayment",
        ending=state if ended else None,
        reason=None,
        stuck=None,
        detail=None,
        started_at=NOW - HOUR,
        moved_at=NOW - MINUTE,
        ended_at=NOW - MINUTE if ended else None,
        result=b'{"shipment":"s-1"}' if state == "completed" else None,
        start=envelope(f"m-{key}", "PlaceOrder", subject=key),
    )
    row = msgspec.structs.replace(row, **fields)
    journal.add_saga(connection, row)
    return row.id


def call(connection: Connection, saga_id: str, pos: int = 2, **fields: Any) -> str:
    """An open call of a saga, with its journal row; returns its message's id."""
    row = CallRow(
        saga=saga_id,
        pos=pos,
        id=f"{saga_id}#{pos}",
        name="AuthorizePayment",
        to_name="payments",
        sent_at=NOW - MINUTE,
        span_s=3 * MINUTE,
        due_at=NOW + 2 * MINUTE,
        strict=0,
        on_dead="hold",
        repeats=0,
    )
    row = msgspec.structs.replace(row, **fields)
    journal.append(connection, saga_id, "run", 1, "create_order", 0, NOW - 2 * MINUTE, b"null")
    kind = "sleep" if row.name == "sleep" else "call"
    journal.append(connection, saga_id, kind, pos, row.name, 0, row.sent_at)
    journal.open_call(connection, row)
    return row.id


def held(connection: Connection, message_id: str, **fields: Any) -> int:
    """A row of an inbox; returns its number."""
    row = Held(
        n=0,
        lane="orders|in|1",
        id=message_id,
        sender="orders",
        kind="in",
        type="AuthorizePayment",
        key="1",
        state="waiting",
        is_suspect=0,
        attempts=0,
        crashes=0,
        letter=None,
        at=NOW - MINUTE,
        due_at=NOW + MINUTE,
        started_at=None,
        error=None,
        body=envelope(message_id, "AuthorizePayment"),
    )
    return inbox.add(connection, msgspec.structs.replace(row, **fields))


def letter(connection: Connection, message_id: str, **fields: Any) -> int:
    """A dead letter; returns its number."""
    row = Letter(
        n=0,
        id=message_id,
        sender="orders",
        kind="in",
        type="AuthorizePayment",
        key="1",
        handler="payments.authorize",
        state="dead",
        attempts=5,
        failed=1,
        replays=0,
        first_at=NOW - 2 * HOUR,
        at=NOW - HOUR,
        error_type="CardTimeout",
        error="no answer from card-gw after 5.0 s",
        traceback=(
            "Traceback (most recent call last):\n"
            '  File "plugins/payments.py", line 52, in authorize\n'
            "CardTimeout: no answer from card-gw after 5.0 s\n"
        ),
        reason=None,
        body=envelope(message_id, "AuthorizePayment", subject="1", data={"order_id": "1"}),
    )
    return dead.add(connection, msgspec.structs.replace(row, **fields))


def accepted(
    connection: Connection,
    number: int,
    done: int,
    *,
    sender: str = "orders",
    kind: str = "in",
    epoch: int = 1000,
) -> None:
    """A receiver's account of a sender."""
    inbox.save_senders(connection, [((sender, kind), Sender(epoch, 0, number, done))])


def sent(
    connection: Connection, numbers: int, *, to: str = "payments", settled: int = 0, kind: str = "in"
) -> None:
    """So many messages in the outbox, the first ``settled`` of them gone again."""
    stream = in_stream(to) if kind == "in" else events_stream(to)
    messages = [
        (stream, f"{to}-{n}", envelope(f"{to}-{n}", "AuthorizePayment")) for n in range(numbers)
    ]
    outbox.add(connection, outbox.last_numbers(connection), messages, NOW - 30)
    outbox.settle(connection, [(stream, settled)])


def a_shop(data: Path) -> None:
    """Two participants in trouble: what a person would look at."""
    catalog(data)
    with store(data, "orders") as connection:
        sent(connection, 8, settled=7)
        stuck = saga(
            connection, "10431", "stuck", stuck="letter", detail="payments/d-1: CardTimeout: no answer"
        )
        call(connection, stuck, due_at=None)
        call(connection, saga(connection, "10519"))
        call(connection, saga(connection, "10388"), due_at=NOW - MINUTE)
        call(connection, saga(connection, "10401"), name="sleep", to_name="", due_at=NOW + 2 * HOUR)
        call(connection, saga(connection, "10530"))
        undone = saga(connection, "10502", "compensating", reason="AuthorizePayment: no", step="undo VoidPayment")
        journal.ask_undo(connection, undone, 2, f"{undone}#2~undo", "VoidPayment", "sent", NOW - 5)
        saga(connection, "10300", "completed")
        saga(connection, "10301", "compensated", reason="over the limit", ended_at=NOW - 2 * MINUTE)
    with store(data, "payments") as connection:
        accepted(connection, 7, 3)
        letter(connection, "orders/fulfil/10431#2", key="10431")
        held(
            connection,
            "orders/fulfil/10519#2",
            key="10519",
            lane="orders|in|10519",
            attempts=3,
            due_at=NOW + 12,
            error="CardTimeout: no answer from card-gw after 5.0 s",
        )
        held(
            connection,
            "orders/fulfil/10530#2",
            key="10530",
            lane="orders|in|10530",
            attempts=1,
            state="running",
            started_at=NOW - 2,
        )
        held(connection, "orders/fulfil/10502#2~undo", type="VoidPayment", lane="orders|in|10502")
        for n, wait in ((1, "again in 2.00 s"), (2, "again in 4.00 s"), (3, "gave up")):
            inbox.fail_attempt(
                connection,
                "orders/fulfil/10431#2",
                NOW - HOUR + n,
                5.0,
                wait,
                "CardTimeout: no answer from card-gw after 5.0 s",
                "Traceback …",
            )
