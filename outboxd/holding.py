"""What is held here and not yet done: rows of the inbox, their order, and the senders' numbers.

An image of the database in memory, moved along with it; ``reload`` makes it anew.
"""

from __future__ import annotations

from collections import Counter

from .batch import Batch
from .lanes import RUNNING, WAITING, Lanes, Slot
from .message import Envelope
from .registry import Registry
from .store import inbox
from .store.connection import Connection
from .store.inbox import Held, Sender

LOCAL = "local"
"""The kind of what came without numbers: timers, sends, foreign producers; counted under "*"."""

LOCAL_KEY = ("*", LOCAL)


class Holding:
    """The held messages of one participant."""

    def __init__(self, registry: Registry) -> None:
        self.lanes = Lanes()
        self.senders: dict[tuple[str, str], Sender] = {}
        self.running: Counter[str] = Counter()
        self._registry = registry

    def reload(self, connection: Connection) -> None:
        """Reads it all again."""
        self.lanes = Lanes()
        self.running.clear()
        for held in inbox.everything(connection):
            if held.state == RUNNING:
                self.running[held.type] += 1
            self.lanes.add(_slot(held))
        self.senders = inbox.senders(connection)

    def new(self, batch: Batch, envelope: Envelope, body: bytes, key: tuple[str, str]) -> Held:
        """A message that has just come, not yet written; ``key`` is its (sender, kind)."""
        sender, kind = key
        subject = envelope.subject
        # Without a key there is no order to keep: each message has a lane of its own.
        own = envelope.source if kind == LOCAL else sender
        lane = f"{own}|{kind}#{envelope.id}" if subject is None else f"{own}|{kind}|{subject}"
        return Held(
            n=0,
            lane=lane,
            id=envelope.id,
            sender=sender,
            kind=kind,
            type=envelope.type,
            key=subject,
            state=WAITING,
            is_suspect=0,
            attempts=0,
            crashes=0,
            letter=None,
            at=batch.now,
            due_at=batch.now,
            started_at=None,
            error=None,
            body=body,
        )

    def hold(self, batch: Batch, held: Held, before: int | None = None) -> None:
        """Writes a new row, at the end of its lane or before another."""
        held.n = inbox.add(batch.connection, held)
        if held.state == WAITING:
            batch.wake_by(held.due_at)
        self.lanes.add(_slot(held), before=before)

    def put_back(self, batch: Batch, held: Held, state: str, due_at: float | None = None) -> None:
        """Gives a message a state in the inbox, new there or not; RUNNING begins an attempt."""
        self._count(held, -1)
        if state == RUNNING:
            held.attempts += 1
            held.started_at = batch.now
        held.state = state
        held.due_at = held.due_at if due_at is None else due_at
        self._count(held, 1)
        if held.n == 0:
            self.hold(batch, held)
            return
        if state == WAITING:
            batch.wake_by(held.due_at)
            held.is_suspect = 0
            self.lanes.clear_suspicion(held.n)
        inbox.save(batch.connection, held)
        self.lanes.change(held.n, state, held.due_at)

    def defer(self, batch: Batch, held: Held, due_at: float) -> None:
        """Asks again at ``due_at``, in memory only: no write for a place that is not free yet."""
        if held.n == 0:
            self.hold(batch, held)
        self.lanes.change(held.n, WAITING, due_at)
        batch.wake_by(due_at)

    def leave(self, batch: Batch, held: Held) -> None:
        """Takes a message out of the inbox, if it was there."""
        if held.n:
            self._count(held, -1)
            inbox.remove(batch.connection, held.n)
            if self.lanes.remove(held.n):
                batch.wake_by(batch.now)

    def count_done(self, batch: Batch, key: tuple[str, str]) -> None:
        """One more message of a sender is finished."""
        self.senders[key].done += 1
        batch.touched.add(key)

    def count_local(self, batch: Batch) -> None:
        """One more message without numbers is ours."""
        self.senders.setdefault(LOCAL_KEY, Sender(0, 0, 0, 0)).accepted += 1
        batch.touched.add(LOCAL_KEY)

    def reports(self, batch: Batch) -> None:
        """Writes the touched senders, and what is to be told of them after the commit."""
        touched = [(key, self.senders[key]) for key in batch.touched]
        inbox.save_senders(batch.connection, touched)
        for (sender, kind), row in touched:
            if kind != LOCAL and row.accepted >= 0:
                flag = ":hole" if batch.holes.get((sender, kind)) else ""
                batch.outcome.accepted[f"{sender}:{kind}"] = f"{row.epoch}:{row.accepted}{flag}"

    def _count(self, held: Held, by: int) -> None:
        if held.state == RUNNING:
            self.running[held.type] += by


def _slot(held: Held) -> Slot:
    return Slot(held.n, held.lane, held.state, held.due_at, bool(held.is_suspect))
