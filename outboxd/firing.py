"""Schedule → message of our own: what is due fires, and its next time is set in the same commit.

So a crash around it fires it neither twice nor never. A firing is a message in the inbox like any
other: in a lane of its own, tried again, and in the end a dead letter that can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable

from .batch import Batch
from .message import Envelope
from .participant import ScheduleSpec, Tx
from .registry import Registry
from .store import schedules
from .store.connection import Connection
from .store.schedules import Planned

EVERY = "every"


class Firing:
    """The schedules of one participant."""

    def __init__(self, participant: str, registry: Registry) -> None:
        self._name = participant
        self._plans = registry.schedules.get(participant, {})

    def opened(self, connection: Connection, now: float) -> None:
        """What the code says now: new schedules begin, changed ones anew, others are given up."""
        known = {row.name: row for row in schedules.everything(connection)}
        for name, spec in self._plans.items():
            plan = spec.schedule
            row = known.pop(name, None) or Planned(name, "", None, 0, None)
            if row.due_at is None or row.spec != plan.text:
                row.due_at = plan.after(now)
            row.spec, row.due_at = plan.text, plan.believed(row.due_at, now)
            schedules.save(connection, row)
        for row in known.values():
            if row.due_at is not None:
                row.due_at = None
                schedules.save(connection, row)

    def shifted(self, connection: Connection, jump_s: float, now: float) -> None:
        """The wall clock jumped to ``now``: intervals go on as they were, a cron follows it."""
        for row in schedules.everything(connection):
            spec = self._plans.get(row.name)
            if spec is not None and row.due_at is not None:
                moved = row.due_at + (0.0 if spec.schedule.cron is not None else jump_s)
                row.due_at = spec.schedule.believed(moved, now)
                schedules.save(connection, row)

    def fire(self, batch: Batch, tell_self: Callable[[Batch, Envelope], None]) -> None:
        """What is due becomes messages of our own."""
        if not self._plans:
            return
        for row in schedules.everything(batch.connection):
            spec = self._plans.get(row.name)
            if spec is None or row.due_at is None or row.due_at > batch.now:
                continue
            fired, row.due_at = spec.schedule.due(row.due_at, batch.now)
            first = row.fired + 1
            row.fired += len(fired)
            row.fired_at = fired[-1] if fired else row.fired_at
            schedules.save(batch.connection, row)
            for number, _ in enumerate(fired, first):
                tell_self(batch, self._envelope(batch, row.name, number))

    def next_due(self, connection: Connection) -> float | None:
        """When the next one falls due."""
        return schedules.next_due(connection)

    def plan(self, envelope: Envelope) -> ScheduleSpec | None:
        """What fired, if the code still has it; nobody else can make our schedules fire."""
        is_own = envelope.kind == EVERY and envelope.source == self._name
        return self._plans.get(envelope.type) if is_own else None

    def run(self, batch: Batch, envelope: Envelope, tx: Tx) -> None:
        """Runs what fired, in its transaction; what it sends goes with it."""
        plan = self.plan(envelope)
        assert plan is not None
        with tx:
            plan.fn(tx)
        batch.send_all(tx.outgoing)

    def _envelope(self, batch: Batch, name: str, number: int) -> Envelope:
        return Envelope(
            specversion="1.0",
            id=f"{self._name}/every/{name}#{number}",
            type=name,
            source=self._name,
            time=batch.time,
            subject=name,
            kind=EVERY,
        )


def own_due(batch: Batch, saga_id: str, pos: int) -> Envelope:
    """A saga's due time as a message, so that it fails and is tried again like any other."""
    return Envelope(
        specversion="1.0",
        id=f"{saga_id}#{pos}:due@{batch.now:.3f}",
        type="due",
        source=batch.sender,
        time=batch.time,
        subject=saga_id,
        kind="due",
        correlationid=saga_id,
        call=pos,
    )
