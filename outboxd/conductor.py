"""Sagas in their participant's database: started, moved by answers and timers, unwound, ended.

The pure driver (``saga.py``) says what the code asks for next; here that becomes journal rows,
outgoing messages and deadlines, all in the transaction of the message that moved the saga. Only
SagaEnd unwinds a saga; any other exception leaves through the batch's savepoint, so nothing of that
step is kept, and the saga's coroutine is dropped.
"""

from __future__ import annotations

import copy
import typing
from collections import OrderedDict
from typing import Any

import msgspec

from . import saga as driver
from .batch import Batch
from .clock import utc
from .errors import (
    CallFailed,
    Cancelled,
    CodeChanged,
    Refused,
    Reject,
    Rejected,
    SagaEnd,
    SagaMisuse,
    TimedOut,
)
from .message import (
    Command,
    Envelope,
    decode_data,
    decode_envelope,
    encode,
    encode_raw,
    in_stream,
    key_of,
    reply_type,
)
from .registry import Registry, SagaKind
from .retry import PATIENT, PATIENT_BUDGET_S
from .saga import Call, Instance, Moved, Publish, Recorded, Returned, Run, Saga, Send, Sleep, Step
from .store import journal, timers
from .store.connection import Connection
from .store.journal import CallRow, SagaRow
from .tx import Tx

CACHE_LIMIT = 20_000
"""Coroutines kept in memory; the rest are rebuilt from their journals when they move."""

_ANSWERS = {"ok", "rejected", "timed_out", "failed", "cancelled", "run", "sent", "published", "woke"}


class Parked(Exception):  # noqa: N818
    """The saga (the argument is its id) cannot move now: its message is held until it may."""


class Tally(msgspec.Struct):
    """How many sagas are in each state."""

    running: int = 0
    compensating: int = 0
    stuck: int = 0
    completed: int = 0
    compensated: int = 0
    cancelled: int = 0


class Conductor:
    """The sagas of one participant. Its memory is an image; ``reload`` makes it anew."""

    def __init__(self, participant: str, registry: Registry) -> None:
        self.name = participant
        self.tally = Tally()
        self._registry = registry
        self._moved: list[str] = []
        self._tally_before = self.tally
        self._instances: OrderedDict[str, Instance] = OrderedDict()

    def reload(self, connection: Connection) -> None:
        """Forgets every coroutine and counts anew."""
        for saga_id in list(self._instances):
            self.drop(saga_id)
        counts = connection.execute("SELECT state, COUNT(*) FROM outboxd_saga GROUP BY state")
        self.tally = Tally(**dict(counts.fetchall()))

    def checkpoint(self) -> None:
        """A message begins; what it moves is forgotten if it is rolled back."""
        self._moved.clear()
        self._tally_before = copy.copy(self.tally)

    def rollback(self) -> None:
        """The message was rolled back: coroutines that it moved are dropped."""
        self.tally = self._tally_before
        for saga_id in self._moved:
            self.drop(saga_id)

    def drop(self, saga_id: str) -> None:
        """Forgets the coroutine of a saga; its journal has all of it."""
        instance = self._instances.pop(saga_id, None)
        if instance is not None:
            instance.drop()

    # A saga starts.

    def id_of(self, kind: SagaKind, key: str, round_: int = 1) -> str:
        suffix = "" if round_ == 1 else f"@{round_}"
        return f"{self.name}/{kind.name}/{key}{suffix}"

    def start(self, batch: Batch, envelope: Envelope, body: bytes, kind: SagaKind) -> None:
        """Starts a saga, or answers a further start with the first one's result."""
        message = decode_data(envelope.data, kind.message)
        key = key_of(message) or ""
        round_ = 1
        found = journal.get_saga(batch.connection, self.id_of(kind, key))
        while found is not None:
            if decode_envelope(found.start).id == envelope.id:
                return self._same_start(batch, envelope, found, kind, message)
            if kind.spec.again != "after_end" or found.ended_at is None:
                return self._start_again(batch, envelope, body, kind, found)
            round_ += 1
            found = journal.get_saga(batch.connection, self.id_of(kind, key, round_))
        row = self._new_row(batch, self.id_of(kind, key, round_), kind, key, round_, body)
        return self._begin(batch, row, kind, message, is_new=True)

    def _same_start(
        self, batch: Batch, envelope: Envelope, found: SagaRow, kind: SagaKind, message: Any
    ) -> None:
        """The very message that started it: sent again, or held since a bug in the first step."""
        steps = [r for r in journal.rows(batch.connection, found.id) if r.pos]
        if found.ended_at is not None:
            self._answer(batch, envelope, found)
        elif found.state == "running" and not steps:
            self._begin(batch, found, kind, message, is_new=False)

    def _new_row(
        self, batch: Batch, saga_id: str, kind: SagaKind, key: str, round_: int, body: bytes
    ) -> SagaRow:
        return SagaRow(
            id=saga_id,
            name=kind.name,
            key=key,
            round=round_,
            version=kind.spec.version,
            state="running",
            is_forward=0,
            step=None,
            ending=None,
            reason=None,
            stuck=None,
            detail=None,
            started_at=batch.now,
            moved_at=batch.now,
            ended_at=None,
            result=None,
            start=body,
        )

    def _start_again(
        self, batch: Batch, envelope: Envelope, body: bytes, kind: SagaKind, found: SagaRow
    ) -> None:
        if kind.spec.again == "refuse":
            raise Reject(f"{found.id} was started before")
        if found.ended_at is not None:
            self._answer(batch, envelope, found)
        elif envelope.replyto is not None:
            journal.add_waiter(batch.connection, found.id, envelope.id, body)

    def _begin(
        self, batch: Batch, row: SagaRow, kind: SagaKind, message: Any, *, is_new: bool
    ) -> None:
        if is_new:
            journal.add_saga(batch.connection, row)
            self.tally.running += 1
        instance = Instance(Saga(row.id, row.key, row.version), kind.spec.fn, message)
        self._keep(row.id, instance)
        self._moved.append(row.id)
        self._drive(batch, row, instance, instance.start(batch.now))

    # A saga moves.

    def on_reply(self, batch: Batch, envelope: Envelope) -> None:
        """An answer came: to a call, or to an undo."""
        row = self._row(batch, envelope)
        if row is None or envelope.call is None:
            return
        if envelope.undoes is not None:
            self._on_undo_answer(batch, row, envelope)
            return
        call = journal.get_call(batch.connection, row.id, envelope.call)
        if call is None or row.ended_at is not None or row.state == "compensating":
            self._journal(batch, row, "late", envelope.call, envelope.type, bytes(envelope.data))
            return
        match envelope.outcome:
            case "ok":
                self._unstick(row, "letter", "forward")
                self._answered(batch, row, call, bytes(envelope.data))
            case "rejected":
                self._unstick(row, "letter", "forward")
                self._rejected(batch, row, call, envelope)
            case "died":
                self._died(batch, row, call, envelope)
            case "replaying":
                self._unstick(row, "letter")
                call.due_at = batch.now + call.span_s
                journal.save_call(batch.connection, call)
                self._journal(batch, row, "resumed", call.pos, call.name)
                self._save(batch, row)
            case _:
                self._unstick(row, "letter")
                reason = _reason(envelope) or "its dead letter was discarded"
                self._throw(batch, row, call, CallFailed(reason, call.name), "failed", True)

    def on_due(self, batch: Batch, envelope: Envelope) -> None:
        """A sleep ended, or a call's deadline passed."""
        row = self._row(batch, envelope)
        if row is None or envelope.call is None or row.ended_at is not None:
            return
        call = journal.get_call(batch.connection, row.id, envelope.call)
        if call is None or row.state == "stuck" or call.due_at is not None:
            return  # answered, suspended, or given a new deadline in the meantime
        if call.name == timers.SLEEP:
            instance = self._load(batch, row)
            journal.close_call(batch.connection, row.id, call.pos)
            self._finish_step(batch, row, instance, "woke", b"null")
            self._drive(batch, row, instance, instance.resume(batch.now, None))
        elif row.is_forward:
            self._repeat(batch, row, call)
        else:
            self._throw(batch, row, call, TimedOut(call.name, call.span_s), "timed_out", True)

    def _answered(self, batch: Batch, row: SagaRow, call: CallRow, data: bytes) -> None:
        instance = self._load(batch, row)
        step = _waiting_call(instance, call.pos)
        value = decode_data(data, reply_type(type(step.command)))
        journal.close_call(batch.connection, row.id, call.pos)
        self._finish_step(batch, row, instance, "ok", data)
        self._drive(batch, row, instance, instance.resume(batch.now, value))

    def _rejected(self, batch: Batch, row: SagaRow, call: CallRow, envelope: Envelope) -> None:
        reason = _reason(envelope)
        if row.is_forward:
            self.stick(batch, row, "forward", f"{call.name} was rejected: {reason}")
            return
        self._throw(batch, row, call, Rejected(reason, call.name), "rejected", False)

    def _died(self, batch: Batch, row: SagaRow, call: CallRow, envelope: Envelope) -> None:
        reason = _reason(envelope)
        if row.is_forward and batch.now - call.sent_at < PATIENT_BUDGET_S:
            call.repeats += 1
            call.due_at = batch.now + PATIENT.ceiling_s(call.repeats + 4)
            journal.save_call(batch.connection, call)
            self._journal(batch, row, "repeated", call.pos, call.name, bytes(envelope.data))
            row.detail = f"{call.name} died ({reason}); it is repeated"
            self._save(batch, row)
        elif call.on_dead == "fail" and not row.is_forward:
            self._throw(batch, row, call, CallFailed(reason, call.name), "failed", True)
        else:
            call.due_at = None
            journal.save_call(batch.connection, call)
            self.stick(batch, row, "letter", reason)

    def _throw(
        self,
        batch: Batch,
        row: SagaRow,
        call: CallRow,
        error: SagaEnd,
        kind: str,
        may_have_run: bool,
    ) -> None:
        """Ends a step with an error; what may have run is closed at once, caught or not."""
        instance = self._load(batch, row)
        journal.close_call(batch.connection, row.id, call.pos)
        data = encode({"reason": str(error), "span_s": call.span_s})
        self._finish_step(batch, row, instance, kind, data)
        step = instance.waiting
        if may_have_run and step is not None and isinstance(step.action, Call):
            self._ask_undo(batch, row, driver.Undo(step.pos, step.action))
        self._drive(batch, row, instance, instance.throw(batch.now, error, may_have_run=may_have_run))

    def _repeat(self, batch: Batch, row: SagaRow, call: CallRow) -> None:
        """Past the point of no return: the same message again, under the same id."""
        if batch.now - call.sent_at >= PATIENT_BUDGET_S:
            self.stick(batch, row, "forward", f"{call.name} was not answered for a day")
            return
        instance = self._load(batch, row)
        step = _waiting_call(instance, call.pos)
        call.repeats += 1
        call.due_at = batch.now + call.span_s + PATIENT.ceiling_s(call.repeats)
        journal.save_call(batch.connection, call)
        self._send_call(batch, row, call.id, call.pos, step, call.due_at)
        self._journal(batch, row, "repeated", call.pos, call.name)
        self._save(batch, row)

    # Steps.

    def _drive(self, batch: Batch, row: SagaRow, instance: Instance, moved: Moved) -> None:
        """Does what the code asks for until it has to wait or comes to its end."""
        while isinstance(moved, Step):
            row.is_forward = int(instance.saga.is_forward_only)
            action = moved.action
            match action:
                case Call():
                    self._call(batch, row, moved, action)
                    return
                case Sleep(span_s=span_s):
                    self._sleep(batch, row, moved, span_s)
                    return
                case Run():
                    value = self._run(batch, row, moved.pos, action.fn, action.args, action.kwargs)
                    self._journal_step(batch, row, "run", moved, encode(value))
                    moved = instance.resume(batch.now, value)
                case Send() | Publish():
                    self._tell(batch, row, moved.pos, action)
                    kind = "sent" if isinstance(action, Send) else "published"
                    self._journal_step(batch, row, kind, moved, b"null")
                    moved = instance.resume(batch.now, None)
        row.is_forward = int(instance.saga.is_forward_only)
        if isinstance(moved, Returned):
            self._returned(batch, row, moved.value)
        else:
            self._unwound(batch, row, instance, moved.error)

    def _call(self, batch: Batch, row: SagaRow, step: Step, call: Call) -> None:
        message_id = f"{row.id}#{step.pos}"
        due_at = batch.now + call.timeout_s
        self._send_call(batch, row, message_id, step.pos, call, due_at)
        self._journal_step(batch, row, "call", step, None)
        journal.open_call(
            batch.connection,
            CallRow(
                saga=row.id,
                pos=step.pos,
                id=message_id,
                name=step.name,
                to_name=call.command.__outboxd__.to or "",
                sent_at=batch.now,
                span_s=call.timeout_s,
                due_at=due_at,
                strict=int(call.strict),
                on_dead=call.on_dead,
                repeats=0,
            ),
        )
        batch.wake_by(due_at)
        row.step, row.detail = step.name, None
        self._save(batch, row)

    def _sleep(self, batch: Batch, row: SagaRow, step: Step, span_s: float) -> None:
        self._journal_step(batch, row, "sleep", step, None)
        journal.open_call(
            batch.connection,
            CallRow(
                saga=row.id,
                pos=step.pos,
                id=f"{row.id}#{step.pos}",
                name=timers.SLEEP,
                to_name="",
                sent_at=batch.now,
                span_s=span_s,
                due_at=batch.now + span_s,
                strict=1,
                on_dead="hold",
                repeats=0,
            ),
        )
        batch.wake_by(batch.now + span_s)
        row.step = f"sleep {step.name}"
        self._save(batch, row)

    def _send_call(
        self, batch: Batch, row: SagaRow, message_id: str, pos: int, call: Call, due_at: float
    ) -> None:
        command = call.command
        batch.send(
            in_stream(command.__outboxd__.to or ""),
            Envelope(
                specversion="1.0",
                id=message_id,
                type=type(command).__name__,
                source=self.name,
                time=batch.time,
                subject=key_of(command),
                data=encode_raw(command),
                kind="command",
                correlationid=row.id,
                replyto=self.name,
                call=pos,
                deadline=utc(due_at),
            ),
        )

    def _run(
        self, batch: Batch, row: SagaRow, pos: int, fn: Any, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        tx = self._tx(batch, row, pos)
        value = fn(tx, *args, **kwargs)
        tx.close()
        batch.send_all(tx.outgoing)
        return value

    def _tell(self, batch: Batch, row: SagaRow, pos: int, action: Send | Publish) -> None:
        tx = self._tx(batch, row, pos)
        if isinstance(action, Send):
            tx.send(action.command, delay=action.delay_s)
        else:
            tx.publish(action.event)
        batch.send_all(tx.outgoing)

    def _tx(self, batch: Batch, row: SagaRow, pos: int) -> Tx:
        cause = Envelope(
            specversion="1.0",
            id=f"{row.id}#{pos}",
            type=row.name,
            source=self.name,
            time=batch.time,
            subject=row.key,
            correlationid=row.id,
        )
        return Tx(batch.connection, self.name, cause, batch.now)

    # Ends and undos.

    def _returned(self, batch: Batch, row: SagaRow, value: Any) -> None:
        row.result = encode(value)
        row.ending = "completed"
        self._end_if_answered(batch, row)

    def _unwound(self, batch: Batch, row: SagaRow, instance: Instance, error: SagaEnd) -> None:
        if row.is_forward:
            raise SagaMisuse(f"the saga failed after its point of no return: {error}") from error
        row.ending = "cancelled" if isinstance(error, Cancelled) else "compensated"
        row.reason = _said(error)
        self._become(row, "compensating")
        self._unwind(batch, row, instance)

    def _unwind(self, batch: Batch, row: SagaRow, instance: Instance) -> None:
        """Undoes what was or may have been done, the last first, one after another."""
        asked = journal.undos_of(batch.connection, row.id)
        for undo in reversed(instance.undos):
            state = asked.get(undo.pos)
            if state == "done":
                continue
            if state is None:
                self._ask_undo(batch, row, undo)
            if undo.fn is None:
                row.step = f"undo {_step_name(undo)}"
                self._save(batch, row)
                return
        self._end_if_answered(batch, row)

    def _ask_undo(self, batch: Batch, row: SagaRow, undo: driver.Undo) -> None:
        message_id = f"{row.id}#{undo.pos}~undo"
        if undo.fn is not None:
            self._run(batch, row, undo.pos, undo.fn, undo.args, {})
            name, state = getattr(undo.fn, "__name__", "undo"), "done"
            self._journal(batch, row, "undo_done", undo.pos, name)
        else:
            assert undo.step is not None
            name, state = _step_name(undo), "sent"
            self._send_undo(batch, row, undo.pos, message_id, undo.step)
            self._journal(batch, row, "undo_sent", undo.pos, name)
        journal.ask_undo(batch.connection, row.id, undo.pos, message_id, name, state, batch.now)

    def _send_undo(
        self, batch: Batch, row: SagaRow, pos: int, message_id: str, step: Call
    ) -> None:
        """An undo, or without one a bare close, in the lane of its step."""
        command = step.undo or step.command
        batch.send(
            in_stream(step.command.__outboxd__.to or ""),
            Envelope(
                specversion="1.0",
                id=message_id,
                type=type(command).__name__,
                source=self.name,
                time=batch.time,
                subject=key_of(step.command),
                data=encode_raw(command),
                kind="undo" if step.undo is not None else "close",
                correlationid=row.id,
                replyto=self.name,
                call=pos,
                undoes=f"{row.id}#{pos}",
            ),
        )

    def _on_undo_answer(self, batch: Batch, row: SagaRow, envelope: Envelope) -> None:
        pos = envelope.call or 0
        if journal.undos_of(batch.connection, row.id).get(pos) != "sent":
            return
        if envelope.outcome == "died":
            self.stick(batch, row, "undo", _reason(envelope))
            return
        if row.stuck == "undo":
            self._unstick(row, "undo")
        if envelope.outcome == "replaying":
            self._save(batch, row)
            return
        name = envelope.type
        journal.ask_undo(batch.connection, row.id, pos, f"{row.id}#{pos}~undo", name, "done", batch.now)
        self._journal(batch, row, "undo_done", pos, name, bytes(envelope.data))
        if row.state == "compensating":
            self._unwind(batch, row, self._load(batch, row))
        elif row.ending is not None:
            self._end_if_answered(batch, row)

    def _end_if_answered(self, batch: Batch, row: SagaRow) -> None:
        open_undos = [
            pos for pos, s in journal.undos_of(batch.connection, row.id).items() if s == "sent"
        ]
        if open_undos:
            row.step = "closing"
            self._save(batch, row)
            return
        self._become(row, row.ending or "completed")
        row.ended_at, row.step, row.detail = batch.now, None, None
        self._journal(batch, row, "ended", 0, row.state)
        self._save(batch, row)
        self._answer(batch, decode_envelope(row.start), row)
        for body in journal.take_waiters(batch.connection, row.id):
            self._answer(batch, decode_envelope(body), row)
        batch.outcome.ended.append(row.id)
        self.drop(row.id)

    def _answer(self, batch: Batch, start: Envelope, row: SagaRow) -> None:
        if start.replyto is None:
            return
        if row.state == "completed":
            batch.reply(start, "ok", row.result or b"null")
        else:
            batch.reply(start, "rejected", encode({"reason": row.reason or row.state}))

    # Stuck, and what an operator does about it.

    def stick(self, batch: Batch, row: SagaRow, kind: str, detail: str) -> None:
        """The saga stands, visibly; its deadlines are suspended."""
        batch.connection.execute("UPDATE outboxd_call SET due_at = NULL WHERE saga = ?", (row.id,))
        self._become(row, "stuck")
        row.stuck, row.detail = kind, detail
        last = detail.strip().splitlines()[-1] if detail.strip() else ""
        self._journal(batch, row, "stuck", 0, kind, encode({"detail": last}))
        self._save(batch, row)
        batch.note("saga_stuck", saga=row.id, kind=kind, detail=last)

    def stick_on_bug(
        self, batch: Batch, envelope: Envelope, body: bytes, kind: SagaKind | None, error: Exception
    ) -> str | None:
        """Every try of a step ended with a bug: nothing of it was kept. Returns the saga's id."""
        stuck = "code changed" if isinstance(error, CodeChanged) else "bug"
        saga_id = envelope.correlationid or ""
        row = journal.get_saga(batch.connection, saga_id)
        if kind is not None:
            key = key_of(decode_data(envelope.data, kind.message)) or ""
            saga_id = self.id_of(kind, key)
            row = journal.get_saga(batch.connection, saga_id)
            if row is None:
                row = self._new_row(batch, saga_id, kind, key, 1, body)
                journal.add_saga(batch.connection, row)
                self.tally.running += 1
        if row is None or row.ended_at is not None:
            return None
        self.drop(row.id)
        self.stick(batch, row, stuck, driver.where(error) if stuck == "bug" else str(error))
        return row.id

    def retry(self, batch: Batch, saga_id: str) -> None:
        """After a fix: the step that failed is made again. Raises Refused where that is not it."""
        row = self._open_row(batch, saga_id)
        if row.state != "stuck":
            raise Refused(f"{saga_id} is {row.state}, not stuck")
        if row.stuck in ("letter", "undo"):
            raise Refused(
                f"{saga_id} is stuck on a dead letter",
                hint="outboxd dead replay LETTER lets it go on; outboxd saga show names the letter",
            )
        was_forward = row.stuck == "forward"
        self._unstick(row, row.stuck or "")
        batch.connection.execute(
            "UPDATE outboxd_call SET due_at = ?1 + span_s WHERE saga = ?2", (batch.now, row.id)
        )
        self._journal(batch, row, "resumed", 0, "retry")
        self._save(batch, row)
        if was_forward:
            for call in journal.calls_of(batch.connection, row.id):
                call.sent_at = batch.now
                self._repeat(batch, row, call)

    def cancel(self, batch: Batch, saga_id: str, reason: str) -> None:
        """Raises Cancelled in the saga's code, which unwinds its undos."""
        row = self._open_row(batch, saga_id)
        if row.is_forward:
            raise Refused(f"{saga_id} is past its point of no return")
        if row.state == "compensating" or row.ending is not None:
            raise Refused(f"{saga_id} is already ending as {row.ending}")
        self._unstick(row, row.stuck or "")
        error = Cancelled(reason or "cancelled by an operator")
        for call in journal.calls_of(batch.connection, row.id):
            return self._throw(batch, row, call, error, "cancelled", call.name != timers.SLEEP)
        row.ending, row.reason = "cancelled", _said(error)
        return self._end_if_answered(batch, row)

    def kill(self, batch: Batch, saga_id: str, reason: str) -> None:
        """Ends the saga as it stands; nothing is undone."""
        row = self._open_row(batch, saga_id)
        for call in journal.calls_of(batch.connection, row.id):
            journal.close_call(batch.connection, row.id, call.pos)
        batch.connection.execute(
            "UPDATE outboxd_undo SET state = 'done' WHERE saga = ? AND state = 'sent'", (row.id,)
        )
        row.ending, row.reason, row.stuck = "cancelled", f"killed: {reason}", None
        self._end_if_answered(batch, row)

    # Rows and coroutines.

    def _open_row(self, batch: Batch, saga_id: str) -> SagaRow:
        row = journal.get_saga(batch.connection, saga_id)
        if row is None:
            raise Refused(f"there is no saga {saga_id}")
        if row.ended_at is not None:
            raise Refused(f"{saga_id} has ended: {row.state}")
        return row

    def _row(self, batch: Batch, envelope: Envelope) -> SagaRow | None:
        row = journal.get_saga(batch.connection, envelope.correlationid or "")
        if row is not None and row.stuck in ("bug", "code changed") and row.ended_at is None:
            raise Parked(row.id)
        return row

    def _load(self, batch: Batch, row: SagaRow) -> Instance:
        """The saga's coroutine, from memory or rebuilt from its journal."""
        instance = self._instances.get(row.id)
        self._moved.append(row.id)
        if instance is not None:
            self._instances.move_to_end(row.id)
            return instance
        kind = self._registry.saga_named(self.name, row.name)
        if kind is None:
            raise CodeChanged(0, f"saga {row.name}", "no such saga")
        message = decode_data(decode_envelope(row.start).data, kind.message)
        instance = Instance(Saga(row.id, row.key, row.version), kind.spec.fn, message)
        recorded, open_step = _recorded(journal.rows(batch.connection, row.id))
        moved = driver.replay(instance, row.started_at, recorded, _decoded)
        if open_step is not None:
            if not isinstance(moved, Step):
                raise CodeChanged(open_step.pos, f"{open_step.kind} {open_step.name}", "the end")
            driver.check(moved, open_step.pos, open_step.kind, open_step.name, open_step.mark)
        self._keep(row.id, instance)
        return instance

    def _keep(self, saga_id: str, instance: Instance) -> None:
        self._instances[saga_id] = instance
        while len(self._instances) > CACHE_LIMIT:
            _, oldest = self._instances.popitem(last=False)
            oldest.drop()

    def _become(self, row: SagaRow, state: str) -> None:
        setattr(self.tally, row.state, getattr(self.tally, row.state) - 1)
        setattr(self.tally, state, getattr(self.tally, state) + 1)
        row.state = state

    def _unstick(self, row: SagaRow, *kinds: str) -> None:
        if row.state == "stuck" and row.stuck in kinds:
            is_unwinding = row.ending in ("compensated", "cancelled")
            self._become(row, "compensating" if is_unwinding else "running")
            row.stuck = row.detail = None

    def _save(self, batch: Batch, row: SagaRow) -> None:
        row.moved_at = batch.now
        journal.save_saga(batch.connection, row)

    def _journal(
        self, batch: Batch, row: SagaRow, kind: str, pos: int, name: str, data: bytes | None = None
    ) -> None:
        journal.append(batch.connection, row.id, kind, pos, name, 0, batch.now, data)

    def _journal_step(
        self, batch: Batch, row: SagaRow, kind: str, step: Step, data: bytes | None
    ) -> None:
        journal.append(
            batch.connection, row.id, kind, step.pos, step.name, step.mark, batch.now, data
        )

    def _finish_step(
        self, batch: Batch, row: SagaRow, instance: Instance, kind: str, data: bytes
    ) -> None:
        step = instance.waiting
        assert step is not None
        self._journal_step(batch, row, kind, step, data)


def _recorded(rows: list[journal.JournalRow]) -> tuple[list[Recorded], journal.JournalRow | None]:
    """The finished steps of a journal, and the one that is still open."""
    finished: list[Recorded] = []
    open_step: journal.JournalRow | None = None
    for row in rows:
        if row.kind in ("call", "sleep"):
            open_step = row
        elif row.kind in _ANSWERS:
            kind = open_step.kind if open_step is not None else _STEP_OF[row.kind]
            open_step = None
            finished.append(
                Recorded(
                    row.pos,
                    kind,
                    row.name,
                    row.mark,
                    row.at,
                    value=row.data,
                    error=_error_of(row),
                    may_have_run=row.kind in ("timed_out", "failed", "cancelled"),
                )
            )
    return finished, open_step


_STEP_OF = {"run": "run", "sent": "send", "published": "publish"}


def _error_of(row: journal.JournalRow) -> SagaEnd | None:
    if row.kind not in ("rejected", "timed_out", "failed", "cancelled"):
        return None
    said = msgspec.json.decode(row.data or b"{}")
    reason = said.get("reason", "")
    match row.kind:
        case "rejected":
            return Rejected(reason, row.name)
        case "timed_out":
            return TimedOut(row.name, said.get("span_s", 0.0))
        case "failed":
            return CallFailed(reason, row.name)
        case _:
            return Cancelled(reason)


def _decoded(step: Step, data: bytes) -> Any:
    """The recorded result of a step as the object that the code once got."""
    match step.action:
        case Call(command=command):
            return decode_data(data, reply_type(type(command)))
        case Run(fn=fn):
            return decode_data(data, typing.get_type_hints(fn).get("return", Any))
        case _:
            return None


def _waiting_call(instance: Instance, pos: int) -> Call:
    step = instance.waiting
    if step is None or step.pos != pos or not isinstance(step.action, Call):
        asked = "the end" if step is None else f"{step.kind} {step.name} (step {step.pos})"
        raise CodeChanged(pos, "a call", asked)
    return step.action


def _step_name(undo: driver.Undo) -> str:
    if undo.step is None:
        return getattr(undo.fn, "__name__", "undo")
    command: Command[Any] = undo.step.undo or undo.step.command
    return type(command).__name__


def _reason(envelope: Envelope) -> str:
    said = msgspec.json.decode(envelope.data)
    return str(said.get("reason", "")) if isinstance(said, dict) else ""


def _said(error: SagaEnd) -> str:
    command = getattr(error, "command", "")
    return f"{command}: {error}" if command and command not in str(error) else str(error)
