"""Valid objects with keyword overrides: a test names only what matters to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from outboxd.instance import Instance
from outboxd.message import Command, Envelope, Event, Message, encode_raw, key_of
from outboxd.saga import Saga
from outboxd.store.dead import Letter
from outboxd.store.inbox import Held
from outboxd.store.journal import CallRow, SagaRow

AT = 1_700_000_000.0
"""The moment at which tests play: 2023-11-14 22:13:20 UTC."""

TIME = datetime.fromtimestamp(AT, UTC)


class Paid(Event, source="payments", key="order_id"):
    order_id: str = "o-1"
    cents: int = 100


class Pay(Command[Paid], to="payments", key="order_id", timeout="30s"):
    order_id: str = "o-1"
    cents: int = 100


class Void(Command[None], to="payments", key="order_id"):
    order_id: str = "o-1"


class Reserve(Command[None], to="inventory", key="order_id"):
    order_id: str = "o-1"
    amount: int = 1


class Unreserve(Command[None], to="inventory", key="order_id"):
    order_id: str = "o-1"


class PlaceOrder(Command[str], to="orders", key="order_id"):
    order_id: str = "o-1"


def envelope(message: Message | None = None, **overrides: Any) -> Envelope:
    """The envelope of ``message`` (default ``Pay()``), from ``orders``."""
    message = Pay() if message is None else message
    values: dict[str, Any] = {
        "specversion": "1.0",
        "id": "m-1",
        "type": type(message).__name__,
        "source": "orders",
        "time": TIME,
        "subject": key_of(message),
        "data": encode_raw(message),
        "kind": "event" if isinstance(message, Event) else "command",
    }
    return Envelope(**{**values, **overrides})


def instance_of(code: Any, message: Message | None = None) -> Instance:
    """A coroutine of the saga ``code``, not yet started."""
    return Instance(Saga("orders/fulfil/o-1", "o-1"), code, message or PlaceOrder())


def held(**overrides: Any) -> Held:
    """A row of the inbox: a ``Pay`` that waits and is due."""
    row = Held(
        n=0,
        lane="orders|in|o-1",
        id="m-1",
        sender="orders",
        kind="in",
        type="Pay",
        key="o-1",
        state="waiting",
        is_suspect=0,
        attempts=0,
        crashes=0,
        letter=None,
        at=AT,
        due_at=AT,
        started_at=None,
        error=None,
        body=b"{}",
    )
    return msgspec.structs.replace(row, **overrides)


def letter(**overrides: Any) -> Letter:
    """A dead ``Pay``."""
    row = Letter(
        n=0,
        id="m-1",
        sender="orders",
        kind="in",
        type="Pay",
        key="o-1",
        handler="payments.authorize",
        state="dead",
        attempts=5,
        failed=1,
        replays=0,
        first_at=AT,
        at=AT,
        error_type="ValueError",
        error="no",
        traceback="Traceback …",
        reason=None,
        body=b"{}",
    )
    return msgspec.structs.replace(row, **overrides)


def saga_row(**overrides: Any) -> SagaRow:
    """A running ``fulfil`` of order o-1."""
    row = SagaRow(
        id="orders/fulfil/o-1",
        name="fulfil",
        key="o-1",
        round=1,
        version=1,
        state="running",
        is_forward=0,
        step=None,
        ending=None,
        reason=None,
        stuck=None,
        detail=None,
        started_at=AT,
        moved_at=AT,
        ended_at=None,
        result=None,
        start=b"{}",
    )
    return msgspec.structs.replace(row, **overrides)


def call_row(**overrides: Any) -> CallRow:
    """That saga's open call of ``Pay``, due in 30 s."""
    row = CallRow(
        saga="orders/fulfil/o-1",
        pos=1,
        id="orders/fulfil/o-1#1",
        name="Pay",
        to_name="payments",
        sent_at=AT,
        span_s=30.0,
        due_at=AT + 30,
        strict=0,
        on_dead="hold",
        repeats=0,
    )
    return msgspec.structs.replace(row, **overrides)
