"""What is held here and not yet done: rows of the inbox, their order, and the senders' numbers.

An image of the database in memory, moved along with it; ``reload`` makes it anew.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from .batch import NEVER, Batch
from .lanes import RUNNING, WAITING, Lanes, Slot
from .message import Envelope
from .registry import Registry
from .store import inbox
from .store.connection import Connection
from .store.inbox import Held, Sender

LOCAL = "local"
"""The kind of what came without numbers: timers, sends, foreign producers; counted under "*"."""

PLACE_S = 1.0
"""The first that waits for a place among the running effects looks again after this by itself."""

LOCAL_KEY = ("*", LOCAL)


class Holding:
    """The held messages of one participant."""

    def __init__(self, registry: Registry) -> None:
        self.lanes = Lanes()
        self.senders: dict[tuple[str, str], Sender] = {}
        self.running: Counter[str] = Counter()
        # By type, in order; a plain dict takes longer to find its first, the more are gone from it.
        self.waiting: dict[str, OrderedDict[int, None]] = {}
        self._registry = registry

    def reload(self, connection: Connection) -> None:
        """Reads it all again."""
        self.lanes = Lanes()
        self.running.clear()
        self.waiting.clear()
        for n, lane, type_name, state, due_at, is_suspect in inbox.places(connection):
            if state == RUNNING:
                self.running[type_name] += 1
            self.lanes.add(Slot(n, lane, state, due_at, bool(is_suspect)))
        self.senders = inbox.senders(connection)

    def new(self, batch: Batch, envelope: Envelope, body: bytes, key: tuple[str, str]) -> Held:
        """A message that has just come, not yet written; ``key`` is its (sender, kind)."""
        sender, kind = key
        subject = envelope.subject
        # Without a key there is no order to keep: each message has a lane of its own.
        own = envelope.source if kind == LOCAL else sender
        if envelope.kind in ("reply", "due"):
            subject = envelope.correlationid  # one saga that stands must not hold up another
        lane = f"{own}|{kind}#{envelope.id}" if subject is None else f"{own}|{kind}|{subject}"
        return Held(
            n=0,
            lane=lane,
            id=envelope.id,
            sender=sender,
            kind=kind,
            type=envelope.type,
            key=envelope.subject,
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
        self._free_place(batch, held)
        if state == RUNNING:
            held.attempts += 1
            held.started_at = batch.now
        held.state = state
        held.due_at = held.due_at if due_at is None else due_at
        if state == RUNNING:
            self.running[held.type] += 1
        if held.n == 0:
            self.hold(batch, held)
            return
        if state == WAITING:
            batch.wake_by(held.due_at)
            held.is_suspect = 0
            self.lanes.clear_suspicion(held.n)
        inbox.save(batch.connection, held)
        self.lanes.change(held.n, state, held.due_at)

    def take_place(self, batch: Batch, held: Held, limit: int) -> bool:
        """Whether one more effect may run now: the first that waits for a place goes first.

        Who gets none waits until it is woken: however many wait, waiting costs nothing.
        """
        queue = self.waiting.setdefault(held.type, OrderedDict())
        is_first = not queue or next(iter(queue)) == held.n
        if self.running[held.type] < limit and is_first:
            queue.pop(held.n, None)
            self.put_back(batch, held, RUNNING)
            if self.running[held.type] < limit:
                self._wake_first(batch, held.type)
            return True
        if held.n == 0:
            self.hold(batch, held)
        queue[held.n] = None
        # In memory only: asking for a place is no write.
        look_at = batch.now + PLACE_S if is_first else NEVER
        self.lanes.change(held.n, WAITING, look_at)
        batch.wake_by(look_at)
        return False

    def leave(self, batch: Batch, held: Held) -> None:
        """Takes a message out of the inbox, if it was there."""
        if held.n:
            self._free_place(batch, held)
            inbox.remove(batch.connection, held.n)
            if self.lanes.remove(held.n):
                batch.wake_by(batch.now)
            queue = self.waiting.get(held.type)
            if queue and held.n in queue:  # it was closed while it waited for its place
                del queue[held.n]
                self._wake_first(batch, held.type)

    def count_done(self, batch: Batch, key: tuple[str, str], count: int = 1) -> None:
        """More messages of a sender are finished."""
        self.senders[key].done += count
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

    def _free_place(self, batch: Batch, held: Held) -> None:
        """An effect ends: the first that waits for its place is due now."""
        if held.state == RUNNING:
            self.running[held.type] -= 1
            self._wake_first(batch, held.type)

    def _wake_first(self, batch: Batch, type_name: str) -> None:
        queue = self.waiting.get(type_name)
        if queue:
            self.lanes.change(next(iter(queue)), WAITING, batch.now)
            batch.wake_by(batch.now)


def _slot(held: Held) -> Slot:
    return Slot(held.n, held.lane, held.state, held.due_at, bool(held.is_suspect))
