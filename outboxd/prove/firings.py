"""The schedules of a participant in the simulator: each fires so often, and is given up then."""

from __future__ import annotations

from collections.abc import Callable

from outboxd.batch import Batch
from outboxd.firing import Firing
from outboxd.message import Envelope
from outboxd.registry import Registry
from outboxd.store import schedules
from outboxd.store.connection import Connection


class SimFiring(Firing):
    """``most``: how often each fires, None for ever. When it does is asked for by itself."""

    def __init__(self, participant: str, registry: Registry, most: int | None) -> None:
        super().__init__(participant, registry)
        self._most = most

    def opened(self, connection: Connection, now: float) -> None:
        super().opened(connection, now)
        self._give_up(connection)

    def fire(self, batch: Batch, tell_self: Callable[[Batch, Envelope], None]) -> None:
        super().fire(batch, tell_self)
        self._give_up(batch.connection)

    def next_due(self, connection: Connection) -> float | None:
        return None

    def _give_up(self, connection: Connection) -> None:
        for row in schedules.everything(connection):
            if self._most is not None and row.fired >= self._most and row.due_at is not None:
                row.due_at = None
                schedules.save(connection, row)
