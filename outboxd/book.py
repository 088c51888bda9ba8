"""The sagas of one participant as they stand: rows, open calls, undos and coroutines, in memory.

An image of the database for those that move; the rest is read when it is needed, and a coroutine is
rebuilt from its journal. What changes is written with the batch; what a rolled-back message touched
is forgotten here.
"""

from __future__ import annotations

import copy
import functools
import typing
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from . import asking, replay
from . import saga as driver
from .batch import Batch
from .errors import CallFailed, Cancelled, CodeChanged, Rejected, SagaEnd, TimedOut
from .instance import Instance
from .message import (
    Undecodable,
    decode_data,
    decode_envelope,
    decode_message,
    decode_version,
    reply_type,
)
from .registry import Registry, SagaKind
from .saga import Call, Join, Recorded, Run, Saga, Step
from .steps import Action, Receive, version_of
from .store import journal, meta
from .store.connection import Connection
from .store.journal import CallRow, JournalRow, SagaRow

FORGOTTEN = "forgotten"
"""In the table of facts: sagas were pruned here, so that a key may have been used before."""

CACHE_LIMIT = 5_000
"""Sagas kept in memory with their coroutines; the others are rebuilt when they move."""


class Tally(msgspec.Struct):
    """How many sagas are in each state."""

    running: int = 0
    compensating: int = 0
    stuck: int = 0
    completed: int = 0
    compensated: int = 0
    cancelled: int = 0


class Live:
    """One saga in memory; ``calls`` and ``undos`` by position, ``length`` of its journal.

    ``died``: why each of the undos died that nobody has replayed since.
    """

    __slots__ = ("calls", "died", "instance", "length", "row", "undos")

    def __init__(
        self, row: SagaRow, calls: dict[int, CallRow], undos: dict[int, str], length: int
    ) -> None:
        self.row = row
        self.calls = calls
        self.undos = undos
        self.length = length
        self.died: dict[int, str] = {}
        self.instance: Instance | None = None


class Book:
    """Reads and writes the sagas of one participant."""

    def __init__(self, participant: str, registry: Registry) -> None:
        self.name = participant
        self.tally = Tally()
        self._registry = registry
        self._has_forgotten = False
        self._live: OrderedDict[str, Live] = OrderedDict()
        self._touched: list[str] = []
        self._tally_before = self.tally

    def reload(self, connection: Connection) -> None:
        """Forgets all and counts anew."""
        self.forget_all()
        self.tally = Tally(**journal.counts(connection))
        self._has_forgotten = meta.get(connection, FORGOTTEN) is not None

    def checkpoint(self) -> None:
        """A message begins."""
        self._touched.clear()
        self._tally_before = copy.copy(self.tally)

    def rollback(self, batch: Batch) -> None:
        """The message was rolled back: what it touched is not what the database has.

        Called after its savepoint; what earlier messages of the batch did to the same sagas is
        written now, so that it is found when they are read again.
        """
        self.tally = self._tally_before
        for saga_id in self._touched:
            self.forget(saga_id)
        if not batch.pending.isdisjoint(self._touched):
            batch.write_out()

    def forget(self, saga_id: str) -> None:
        """Drops a saga from memory; its rows have all of it."""
        live = self._live.pop(saga_id, None)
        if live is not None and live.instance is not None:
            live.instance.drop()

    def forget_all(self) -> None:
        """Drops every saga from memory."""
        for saga_id in list(self._live):
            self.forget(saga_id)

    def pruned(self, batch: Batch, sagas: list[tuple[str, str]]) -> None:
        """These, of which (id, state) were the last known, are in the database no more."""
        for saga_id, state in sagas:
            self.forget(saga_id)
            setattr(self.tally, state, getattr(self.tally, state) - 1)
        if sagas and not self._has_forgotten:
            meta.put(batch.connection, FORGOTTEN, 1)
            self._has_forgotten = True

    def last_round(self, batch: Batch, name: str, key: str, ids: Callable[[int], str]) -> int:
        """The highest round with a key that has begun, or 1; ``ids``: a round's saga id."""
        found = journal.last_round(batch.connection, name, key)
        while ids(found + 1) in self._live:  # begun in this batch: not in the database yet
            found += 1
        return found

    def find(self, batch: Batch, saga_id: str) -> Live | None:
        """The saga as it stands, or None if there is none."""
        self._touched.append(saga_id)
        live = self._live.get(saga_id)
        if live is not None:
            self._live.move_to_end(saga_id)
            return live
        row = journal.get_saga(batch.connection, saga_id)
        if row is None:
            return None
        live = Live(
            row,
            {call.pos: call for call in journal.calls_of(batch.connection, saga_id)},
            journal.undos_of(batch.connection, saga_id),
            journal.length(batch.connection, saga_id),
        )
        if row.state == "stuck":
            live.died = journal.died_undos(batch.connection, saga_id)
        self._keep(batch, live)
        return live

    def add(self, batch: Batch, row: SagaRow) -> Live:
        """A new saga."""
        if self._has_forgotten:
            row.born = int(batch.now * 1000)
        batch.defer(row.id, journal.ADD_SAGA, msgspec.structs.astuple(row))
        setattr(self.tally, row.state, getattr(self.tally, row.state) + 1)
        live = Live(row, {}, {}, 0)
        self._touched.append(row.id)
        self._keep(batch, live)
        return live

    def save(self, batch: Batch, live: Live) -> None:
        live.row.moved_at = batch.now
        batch.defer(live.row.id, journal.SAVE_SAGA, journal.saga_changes(live.row))

    def become(self, live: Live, state: str) -> None:
        """Another state, counted."""
        before = live.row.state
        setattr(self.tally, before, getattr(self.tally, before) - 1)
        setattr(self.tally, state, getattr(self.tally, state) + 1)
        live.row.state = state

    def open_call(self, batch: Batch, live: Live, call: CallRow) -> None:
        live.calls[call.pos] = call
        batch.defer(call.saga, journal.OPEN_CALL, msgspec.structs.astuple(call))
        if call.due_at is not None:
            batch.wake_by(call.due_at)
        if call.kind == "receive":
            batch.listening.append((call.saga, call.pos))

    def save_call(self, batch: Batch, call: CallRow) -> None:
        batch.defer(call.saga, journal.SAVE_CALL, journal.call_changes(call))
        if call.due_at is not None:
            batch.wake_by(call.due_at)

    def close_call(self, batch: Batch, live: Live, pos: int) -> None:
        live.calls.pop(pos, None)
        batch.defer(live.row.id, journal.CLOSE_CALL, (live.row.id, pos))

    def set_undo(
        self, batch: Batch, live: Live, pos: int, name: str, state: typing.Literal["sent", "done"]
    ) -> None:
        saga_id = live.row.id
        live.undos[pos] = state
        if state == "done":
            live.died.pop(pos, None)
        values = (saga_id, pos, asking.undo_id(live.row, pos), name, state, batch.now)
        batch.defer(saga_id, journal.ASK_UNDO, values)

    def note_death(self, batch: Batch, live: Live, pos: int, why: str | None) -> None:
        """An undo died, or is replayed (None)."""
        if why is None:
            live.died.pop(pos, None)
        else:
            live.died[pos] = why
        batch.defer(live.row.id, journal.NOTE_DEATH, (why, live.row.id, pos))

    def journal(
        self, batch: Batch, live: Live, kind: str, pos: int, name: str, data: bytes | None = None
    ) -> None:
        """Something that happened to the saga."""
        self._append(batch, live, kind, pos, name, 0, data)

    def journal_step(
        self, batch: Batch, live: Live, kind: str, step: Step, data: bytes | None
    ) -> None:
        """A step that was asked for, or how it ended."""
        self._append(batch, live, kind, step.pos, step.name, step.mark, data)

    def _append(
        self,
        batch: Batch,
        live: Live,
        kind: str,
        pos: int,
        name: str,
        mark: int,
        data: bytes | None,
    ) -> None:
        live.length += 1
        values = (live.row.id, live.length, kind, pos, name, mark, batch.now, data)
        batch.defer(live.row.id, journal.APPEND, values)

    def _keep(self, batch: Batch, live: Live) -> None:
        """Keeps the latest; a saga with deferred writes is not in the database yet, so it stays."""
        self._live[live.row.id] = live
        if len(self._live) > CACHE_LIMIT:
            oldest = next(iter(self._live))
            if oldest != live.row.id and oldest not in batch.pending:
                self.forget(oldest)

    def instance(self, batch: Batch, live: Live) -> Instance:
        """The saga's coroutine, from memory or rebuilt. Raises CodeChanged if it no longer fits."""
        if live.instance is not None:
            return live.instance
        rows = journal.rows(batch.connection, live.row.id)
        live.instance = rebuilt(self._registry, self.name, live.row, rows)
        return live.instance


def rebuilt(registry: Registry, participant: str, row: SagaRow, rows: list[JournalRow]) -> Instance:
    """A saga's coroutine from its journal, without effects. Raises CodeChanged if they differ."""
    instance = unbegun(registry, participant, row)
    try:
        catch_up(instance, row.started_at, rows)
    except BaseException:
        instance.drop()
        raise
    return instance


def unbegun(registry: Registry, participant: str, row: SagaRow) -> Instance:
    """A begun saga's coroutine before its first step. Raises CodeChanged if its message differs."""
    kind = registry.saga_named(participant, row.name)
    if kind is None:
        raise CodeChanged(0, f"saga {row.name}", "no such saga")
    start = decode_envelope(row.start)
    try:
        message = decode_message(start, kind.message)
    except Undecodable as err:
        recorded = f"start {start.type} {driver.shown(bytes(start.data))}"
        raise CodeChanged(0, recorded, str(err)) from err
    return instance_of(row, kind, message)


def instance_of(row: SagaRow, kind: SagaKind, message: object) -> Instance:
    """A saga's coroutine for the message that starts it."""
    return Instance(Saga(row.id, row.key, row.version, kind.spec.receives), kind.spec.fn, message)


def catch_up(
    instance: Instance,
    started_at: float,
    rows: list[JournalRow],
    ended: replay.Ended = replay.nothing,
) -> None:
    """Runs a coroutine to where its journal ends. Raises CodeChanged if they differ."""
    recorded, begun = _recorded(rows)
    driver.replay(instance, started_at, recorded, _decoded, ended)
    for row in begun.values():
        replay.asked_at(instance, row.pos, row.kind, row.name, row.mark)
    if begun and (new := instance.open.keys() - begun.keys()):
        raise CodeChanged(min(new), "no such step", replay.said(instance))


DROPPED = "dropped"
"""Of a step in the journal: what it stood beside has ended, and nobody waits for it any more."""

_BEGINNINGS = ("call", "join", "sleep", "until", "receive")
_AT_ONCE = {"run": "run", "sent": "send", "published": "publish", "started": "start"}
_ENDS = {"ok", "skipped", "rejected", "timed_out", "failed", "cancelled", "woke", "received"} | {
    *_AT_ONCE
}


class _Skipped(msgspec.Struct, frozen=True):
    """What an operator answered a step with."""

    value: msgspec.Raw

    @classmethod
    def value_of(cls, data: bytes | None) -> bytes:
        return bytes(msgspec.json.decode(data or b"{}", type=cls).value)


def is_step(row: JournalRow) -> bool:
    """Whether a row belongs to a step of the code (and not to what was done to the saga)."""
    return row.kind in _BEGINNINGS or row.kind in _ENDS


def _recorded(rows: list[JournalRow]) -> tuple[list[Recorded], dict[int, JournalRow]]:
    """The steps of a journal in the order in which they ended, and those that are still open."""
    finished: list[Recorded] = []
    begun: dict[int, JournalRow] = {}
    for row in rows:
        if row.kind in _BEGINNINGS:
            begun[row.pos] = row
        elif row.kind == DROPPED:
            begun.pop(row.pos, None)
        elif row.kind in _ENDS:
            opened = begun.pop(row.pos, None)
            kind = _AT_ONCE.get(row.kind) or (opened.kind if opened is not None else "call")
            finished.append(
                Recorded(
                    row.pos,
                    kind,
                    row.name,
                    row.mark,
                    row.at,
                    value=row.data if row.kind != "skipped" else _Skipped.value_of(row.data),
                    error=_error_of(row, kind),
                    may_have_run=row.kind in ("timed_out", "failed", "cancelled", "skipped"),
                )
            )
    return finished, begun


def _error_of(row: JournalRow, step: str) -> SagaEnd | None:
    if row.kind not in ("rejected", "timed_out", "failed", "cancelled"):
        return None
    said = msgspec.json.decode(row.data or b"{}")
    reason = said.get("reason", "")
    match row.kind:
        case "rejected":
            return Rejected(reason, row.name)
        case "timed_out":
            return timed_out(step, row.name, said.get("span_s", 0.0))
        case "failed":
            return CallFailed(reason, row.name)
        case _:
            return Cancelled(reason)


def timed_out(step: str, name: str, span_s: float) -> TimedOut:
    """What a call or a receive raises when its time is over."""
    return TimedOut(name, span_s, "came" if step == "receive" else "was answered")


@functools.cache
def _returned(fn: Callable[..., Any]) -> Any:
    return typing.get_type_hints(fn).get("return", Any)


def answer_of(action: Action) -> Any:
    """The type of what a step is answered with."""
    match action:
        case Call(command=command) | Join(command=command):
            return reply_type(type(command))
        case Run(fn=fn):
            return _returned(fn)
        case Receive(message=message):
            return message
        case _:
            return None


def _decoded(step: Step, record: Recorded) -> Any:
    """The recorded result of a step as the object that the code once got.

    Raises CodeChanged if the code now wants another type of it.
    """
    if not isinstance(step.action, (Call, Join, Run, Receive)):
        return None
    data = record.value
    try:
        if isinstance(step.action, Receive):
            return decode_version(data, version_of(record.mark), step.action.message)
        return decode_data(data, answer_of(step.action))
    except Undecodable as err:
        recorded = f"{step.kind} {step.name} with the result {driver.shown(bytes(data))}"
        raise CodeChanged(step.pos, recorded, str(err)) from err
