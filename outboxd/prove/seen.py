"""What a test sees of a message that it sent: its saga, or what its handler made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import msgspec

from outboxd.message import Envelope, decode_data, decode_envelope
from outboxd.registry import SagaKind
from outboxd.store import journal

if TYPE_CHECKING:
    from .node import Node
    from .stage import Stage

R = TypeVar("R")

_ENDS = {
    "run": "ran",
    "ok": "ok",
    "skipped": "skipped",
    "received": "received",
    "dropped": "dropped",
    "rejected": "rejected",
    "timed_out": "timed out",
    "failed": "failed",
    "cancelled": "cancelled",
    "woke": "slept",
    "sent": "sent",
    "published": "published",
    "started": "started",
}


class SagaStep(NamedTuple):
    """A step of a saga: a message, a function or a span, and how it ended."""

    name: str
    ended: str

    def __repr__(self) -> str:
        return f"({self.name!r}, {self.ended!r})"


class DeadLetter(msgspec.Struct, frozen=True):
    """A dead letter. ``name``: as ``payments/d-1``; ``state``: dead, replayed, discarded …"""

    name: str
    type: str
    key: str | None
    error: str
    state: str
    message_id: str


class Seen(Generic[R]):
    """A message that a test has sent, as things stand at the moment of asking.

    Of one that started a saga, ``state``, ``reason``, ``steps`` and ``undone`` are the saga's.
    Of any other, ``state`` is handled, rejected, waiting or dead.
    """

    def __init__(
        self, stage: Stage, participant: str, envelope: Envelope, kind: SagaKind | None
    ) -> None:
        self.id = envelope.id
        self._stage = stage
        self._participant = participant
        self._type = envelope.type
        self._key = envelope.subject or ""
        self._kind = kind

    def __repr__(self) -> str:
        return f"<{self._type} {self.id}: {self.state}>"

    @property
    def saga_id(self) -> str:
        """Of the saga that it started. Raises AssertionError if there is none."""
        return self._row().id

    @property
    def state(self) -> str:
        """Of its saga (running, compensating, stuck, completed, compensated, cancelled)."""
        if self._kind is not None:
            row = self._found()
            return "waiting" if row is None else row.state
        return self._handled_state()

    @property
    def result(self) -> R:
        """What the saga, or the handler, returned. Raises AssertionError if it did not."""
        if self._kind is None:
            if self.state != "handled":
                raise AssertionError(f"{self._type} {self.id} is {self.state}: {self.reason}")
            value: R = self._stage.scripted.values[self.id]
            return value
        row = self._row()
        if row.state != "completed" or row.result is None:
            raise AssertionError(f"{row.id} is {row.state}, {row.reason or row.detail or row.step}")
        decoded: R = decode_data(row.result, self._kind.result)
        return decoded

    @property
    def reason(self) -> str | None:
        """Why it came to nothing, or why a saga is stuck; None if that is not so."""
        if self._kind is None:
            return self._stage.scripted.refusals.get(self.id) or self._error()
        row = self._row()
        return row.detail if row.state == "stuck" else row.reason

    @property
    def waits_for(self) -> str | None:
        """The step at which a saga is: the message it waits for, ``sleep 30s``, ``undo X``."""
        return self._row().step

    @property
    def steps(self) -> list[SagaStep]:
        """The steps that the saga's code asked for, in order, and how each ended."""
        found: dict[int, SagaStep] = {}
        for row in self._journal():
            if row.kind in ("call", "join", "sleep"):
                found[row.pos] = SagaStep(row.name, "waiting")
            elif row.kind in _ENDS:
                found[row.pos] = SagaStep(row.name, _ENDS[row.kind])
        return list(found.values())

    @property
    def undone(self) -> list[str]:
        """What was undone, by the names of the undos, in order."""
        return [row.name for row in self._journal() if row.kind == "undo_done"]

    def _node(self) -> Node:
        return self._stage.node(self._participant)

    def _journal(self) -> list[journal.JournalRow]:
        return journal.rows(self._node().connection, self._row().id)

    def _row(self) -> journal.SagaRow:
        row = self._found()
        if row is None:
            raise AssertionError(f"{self._type} {self.id} has started no saga: it is {self.state}")
        return row

    def _found(self) -> journal.SagaRow | None:
        """Its saga; of several with one key, the one that it started, or else the latest."""
        if self._kind is None:
            return None
        rows = [
            row
            for (saga_id,) in self._node().rows(
                "SELECT id FROM outboxd_saga WHERE name = ? AND key = ? ORDER BY round",
                self._kind.name,
                self._key,
            )
            if (row := journal.get_saga(self._node().connection, saga_id)) is not None
        ]
        own = [row for row in rows if decode_envelope(row.start).id == self.id]
        return next(reversed(own or rows), None)

    def _handled_state(self) -> str:
        node = self._node()
        handled = {(name, envelope.id) for name, envelope in self._stage.watching.handled}
        if (self._participant, self.id) in handled:
            return "handled"
        if node.rows("SELECT 1 FROM outboxd_inbox WHERE id = ?", self.id):
            return "waiting"
        if node.rows(
            "SELECT 1 FROM outboxd_dead WHERE id = ? AND state IN ('dead', 'discarded')", self.id
        ):
            return "dead"
        return "rejected" if self.id in self._stage.scripted.refusals else "waiting"

    def _error(self) -> str | None:
        rows = self._node().rows(
            "SELECT error FROM outboxd_inbox WHERE id = ? UNION ALL "
            "SELECT error_type || ': ' || error FROM outboxd_dead WHERE id = ?",
            self.id,
            self.id,
        )
        return rows[-1][0] if rows else None
