"""What a handler holds: ``Tx``, one transaction in its participant's database, and ``Db`` to read.

State and intent leave together: ``publish`` and ``send`` only collect; what they collected is
written to the outbox in the same transaction, or not at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol, Self

import msgspec

from .clock import seconds, utc
from .errors import SagaMisuse
from .message import Command, Envelope, Event, Message, encode_raw, events_stream, in_stream, key_of

Row = tuple[Any, ...]

LONG_ID = 1200


class Cursor(Protocol):
    """The part of a database cursor that we use."""

    @property
    def rowcount(self) -> int: ...
    def fetchall(self) -> list[Any]: ...
    def fetchone(self) -> Any: ...


class Connection(Protocol):
    """The part of a database connection that we use."""

    @property
    def in_transaction(self) -> bool: ...
    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor: ...
    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor: ...


class Rows(list[Row]):
    """All rows of a statement; ``changed`` counts the rows it inserted, updated or deleted."""

    changed: int = 0


_NOT_YOURS = re.compile(
    r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
    r"(BEGIN|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE|ATTACH|DETACH|VACUUM|PRAGMA)\b",
    re.IGNORECASE | re.DOTALL,
)
_OR_ROLLBACK = re.compile(r"\b(OR\s+ROLLBACK)\b", re.IGNORECASE)


@lru_cache(maxsize=2048)
def _checked(sql: str) -> str:
    found = _NOT_YOURS.match(sql) or _OR_ROLLBACK.search(sql)
    if found:
        raise SagaMisuse(
            f"{found[1].upper()} is not a handler's: outboxd opens and ends the transaction, "
            "so that state, inbox and outbox commit together"
        )
    return sql


class Db:
    """Reads a participant's database.

    ``of(name)`` is the database of another participant of the same data directory: only
    invariants may look there, since two databases are never one snapshot.
    """

    def __init__(
        self, connection: Connection, others: Callable[[str], Connection] | None = None
    ) -> None:
        self._connection = connection
        self._others = others

    def execute(self, sql: str, args: Sequence[Any] | dict[str, Any] = ()) -> Rows:
        """Runs one statement; returns all its rows."""
        cursor = self._connection.execute(_checked(sql), args)
        rows = Rows(cursor.fetchall())
        rows.changed = cursor.rowcount
        return rows

    def one(self, sql: str, args: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """The first row, or None."""
        rows = self.execute(sql, args)
        return rows[0] if rows else None

    def value(self, sql: str, args: Sequence[Any] | dict[str, Any] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.one(sql, args)
        return row[0] if row else None

    def of(self, participant: str) -> Db:
        """Another participant's database, read only."""
        if self._others is None:
            raise SagaMisuse("only an invariant may read another participant's database")
        return Db(self._others(participant))


class Outgoing(msgspec.Struct, frozen=True):
    """One message on its way to the outbox; ``due_at`` (UTC seconds) holds it back until then."""

    stream: str
    envelope: Envelope
    due_at: float | None = None


class Step(msgspec.Struct, frozen=True):
    """The step that an undo undoes: the id of its message and what became of it.

    ``result`` is the recorded reply as raw JSON, or None when it is unknown whether it ran.
    """

    message_id: str
    known: bool
    result: msgspec.Raw | None


class Tx(Db):
    """One transaction, for one handled message. It refuses use once that is over.

    ``message_id``, ``key``: of the handled message; ``now``: when its handling began (aware UTC);
    ``attempt``: from 1; ``step``: in an undo's handler, the step to undo.
    """

    def __init__(
        self,
        connection: Connection,
        sender: str,
        cause: Envelope,
        at: float,
        *,
        attempt: int = 1,
        step: Step | None = None,
        first: int = 1,
    ) -> None:
        super().__init__(connection)
        self.outgoing: list[Outgoing] = []
        self.message_id = cause.id
        self.key = cause.subject
        self.attempt = attempt
        self.step = step
        self._sender = sender
        self._cause = cause
        self._at = at
        self._next = first
        self._open = True

    @property
    def now(self) -> datetime:
        return utc(self._at)

    @property
    def idempotency_key(self) -> str:
        """Stable over every retry of this message."""
        return self._cause.idempotencykey or self._cause.id

    def execute(self, sql: str, args: Sequence[Any] | dict[str, Any] = ()) -> Rows:
        self._must_be_open()
        was_inside = self._connection.in_transaction
        try:
            return super().execute(sql, args)
        except Exception:
            self._close_if_ended(was_inside)
            raise

    def executemany(self, sql: str, args: Iterable[Sequence[Any]]) -> int:
        """Runs one statement for each of ``args``; returns the number of rows changed."""
        self._must_be_open()
        was_inside = self._connection.in_transaction
        try:
            return self._connection.executemany(_checked(sql), args).rowcount
        except Exception:
            self._close_if_ended(was_inside)
            raise

    def publish(self, event: Event) -> None:
        """Publishes ``event`` with this transaction, for whoever subscribes."""
        self._add(event, "event", events_stream(self._sender), None)

    def send(self, command: Command[Any], *, delay: str | float | None = None) -> None:
        """Sends ``command`` to its owner with this transaction; no answer comes back.

        ``delay`` ("30s" or seconds) holds it back; delayed messages are exempt from order.
        """
        to = command.__outboxd__.to
        if to is None:
            raise SagaMisuse(f"{type(command).__name__} has no owner")
        due_at = None if delay is None else self._at + seconds(delay)
        self._add(command, "command", in_stream(to), due_at)

    def close(self) -> None:
        """Ends the use of this object."""
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _add(self, message: Message, kind: str, stream: str, due_at: float | None) -> None:
        self._must_be_open()
        cause = self._cause
        # Several participants may handle one message: each names what it says of it as its own.
        parent = cause.id if cause.source == self._sender else f"{cause.id}.{self._sender}"
        if len(parent) > LONG_ID:  # a chain of events must not end where its ids get too long
            parent = hashlib.sha256(parent.encode()).hexdigest()
        envelope = Envelope(
            specversion="1.0",
            id=f"{parent}.{self._next}",
            type=type(message).__name__,
            source=self._sender,
            time=self.now,
            subject=key_of(message),
            data=encode_raw(message),
            kind=kind,
            correlationid=cause.correlationid or cause.id,
            causationid=cause.id,
            traceparent=cause.traceparent,
            schemaversion=message.__outboxd__.version,
        )
        self._next += 1
        self.outgoing.append(Outgoing(stream, envelope, due_at))

    def _close_if_ended(self, was_inside: bool) -> None:
        """A full disk ends the whole transaction: what is written after that would commit alone."""
        if was_inside and not self._connection.in_transaction:
            self._open = False

    def _must_be_open(self) -> None:
        if not self._open:
            raise SagaMisuse("this transaction is over: a Tx is used only inside its handler")
