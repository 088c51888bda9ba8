"""One transaction under way: what it has read, changed and wants to send.

Everything that a batch sends is collected here and becomes outbox rows at its end, so that what a
rolled-back message wanted to say is never said, and numbers have no gaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import msgspec

from .clock import utc
from .message import Envelope, checked_size, encode, events_stream, in_stream
from .registry import Handler
from .store import outbox
from .store.connection import Connection
from .store.inbox import Held
from .store.journal import Write
from .store.outbox import OutRow
from .tx import Outgoing, Step

NEVER = float("inf")


class Started(msgspec.Struct, frozen=True):
    """An attempt that is committed as begun and is now to be made."""

    held: Held
    envelope: Envelope
    handler: Handler | None
    step: Step | None = None


class Outcome(msgspec.Struct):
    """What is to be done once COMMIT has returned.

    ``freed``: undos that waited for the end of a saga; ``sagas``: which saga a start belongs to,
    or None if it was answered "no"; ``refused``: messages that were not taken, and why;
    ``removed``: who subscribes no more.
    """

    rows: list[OutRow] = []
    accepted: dict[str, str] = {}
    started: list[Started] = []
    notes: list[tuple[str, dict[str, object]]] = []
    ended: list[str] = []
    freed: list[str] = []
    sagas: dict[str, str | None] = {}
    refused: dict[str, str] = {}
    removed: list[str] = []
    answer: str = ""
    taken: int = 0
    wake_at: float = NEVER
    has_suspects: bool = False


class Batch:
    """The transaction of one batch. ``now`` is its one moment, in UTC seconds.

    ``posted``: messages for sagas to receive; ``listening``: (saga, position) of who waits for one
    since a moment ago. They meet at the end.
    """

    def __init__(self, connection: Connection, sender: str, now: float) -> None:
        self.connection = connection
        self.sender = sender
        self.now = now
        self.time: datetime = utc(now)
        self.outcome = Outcome()
        self.touched: set[tuple[str, str]] = set()
        self.holes: dict[tuple[str, str], bool] = {}
        self.pending: set[str] = set()
        self.posted: list[Envelope] = []
        self.listening: list[tuple[str, int]] = []
        self._out: list[tuple[str, str, bytes]] = []
        self._writes: list[tuple[Write, tuple[object, ...]]] = []

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """One message within the batch: an exception undoes it and nothing else."""
        connection, sent, written = self.connection, len(self._out), len(self._writes)
        outcome = self.outcome
        growing = (outcome.notes, outcome.ended, outcome.freed, self.posted, self.listening)
        grown = [(kept, len(kept)) for kept in growing]
        connection.execute("SAVEPOINT message")
        try:
            yield
        except BaseException:
            # A full disk has already ended the whole transaction; then the job fails as a whole.
            if connection.in_transaction:
                connection.execute("ROLLBACK TO message")
                connection.execute("RELEASE message")
            del self._out[sent:], self._writes[written:]
            for kept, length in grown:
                del kept[length:]
            raise
        connection.execute("RELEASE message")

    def defer(self, saga_id: str, write: Write, values: tuple[object, ...]) -> None:
        """A write to a saga's tables, made with the others of its kind before the batch ends."""
        self.pending.add(saga_id)
        self._writes.append((write, values))

    def write_out(self) -> None:
        """Makes the deferred writes; called outside a message's savepoint only."""
        groups: dict[Write, list[tuple[object, ...]]] = {}
        for write, values in self._writes:
            groups.setdefault(write, []).append(values)
        self._writes.clear()
        self.pending.clear()
        for write in sorted(groups, key=lambda write: write.rank):
            self.connection.executemany(write.sql, groups[write])

    def note(self, event: str, **facts: object) -> None:
        """Something worth a line in the log, once it is committed."""
        self.outcome.notes.append((event, facts))

    def wake_by(self, at: float) -> None:
        """Something falls due at ``at`` (UTC seconds)."""
        if at < self.outcome.wake_at:
            self.outcome.wake_at = at

    def send(self, stream: str, envelope: Envelope) -> None:
        self._out.append((stream, envelope.id, checked_size(encode(envelope))))

    def send_all(self, outgoing: list[Outgoing]) -> None:
        """What a handler collected; delayed messages wait in a table of their own."""
        for item in outgoing:
            if item.due_at is None:
                self.send(item.stream, item.envelope)
            else:
                self.wake_by(item.due_at)
                outbox.delay(
                    self.connection,
                    item.envelope.id,
                    item.stream,
                    item.due_at,
                    checked_size(encode(item.envelope)),
                )

    def send_raw(self, stream: str, message_id: str, body: bytes) -> None:
        self._out.append((stream, message_id, body))

    def publish(self, envelope: Envelope) -> None:
        self.send(events_stream(self.sender), envelope)

    def reply(self, to: Envelope, outcome: str, data: bytes = b"null") -> None:
        """Answers ``to`` if somebody waits for it."""
        if to.replyto is None:
            return
        self.send(
            in_stream(to.replyto),
            Envelope(
                specversion="1.0",
                id=f"{to.id}:{outcome}",
                type=to.type,
                source=self.sender,
                time=self.time,
                subject=to.subject,
                data=msgspec.Raw(data),
                kind="reply",
                correlationid=to.correlationid,
                causationid=to.id,
                call=to.call,
                outcome=outcome,
                undoes=to.undoes,
                traceparent=to.traceparent,
            ),
        )

    def flush(self, last: dict[str, int]) -> None:
        """Writes what was deferred and sent; ``last``, the streams' numbers, is moved along."""
        self.write_out()
        if self._out:
            self.outcome.rows = outbox.add(self.connection, last, self._out, self.now)
