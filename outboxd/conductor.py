"""Sagas in their participant's database, moved by answers and timers.

The pure driver (``saga.py``) says what the code asks for next; here that becomes journal rows,
outgoing messages and deadlines, all in the transaction of the message that moved the saga. Only
SagaEnd unwinds a saga; any other exception leaves through the message's savepoint, so nothing of
that step is kept, and the saga is forgotten in memory.
"""

from __future__ import annotations

from typing import Any

import msgspec

from . import asking, standing, waits
from .batch import Batch
from .beginning import Beginning
from .book import Book, Live, answer_of, timed_out
from .ending import Ending
from .errors import (
    CallFailed,
    Cancelled,
    CodeChanged,
    Rejected,
    SagaEnd,
    SagaMisuse,
)
from .instance import Instance, Moved, Returned, Steps
from .message import (
    Envelope,
    Undecodable,
    brief,
    decode_data,
    decode_version,
    encode,
    reply_type,
)
from .pending import WAITS
from .registry import Registry, SagaKind
from .retry import PATIENT, PATIENT_BUDGET_S
from .saga import Call, Publish, Run, Send, Start, Step, Undo, shown
from .store.journal import CallRow, SagaRow
from .waits import Waits

TOLD = {"send": "sent", "publish": "published", "start": "started"}
"""What is told without waiting, and how the journal says that it was."""


class Parked(Exception):
    """The saga (the argument is its id) cannot move now: its message is held until it may."""


class Conductor:
    """Moves the sagas of one participant."""

    def __init__(self, participant: str, registry: Registry) -> None:
        self.name = participant
        self.book = Book(participant, registry)
        self.ending = Ending(self.book)
        self.waits = Waits(self.book, self.ending)
        self.beginning = Beginning(self.book, self.ending, self._drive)
        self._registry = registry

    def kind_of(self, row: SagaRow) -> SagaKind | None:
        """The saga's code, if there still is any."""
        return self._registry.saga_named(self.name, row.name)

    def addressee(self, type_name: str) -> str | None:
        """Whom a message goes to, if its type is known here."""
        found = self._registry.message(type_name)
        return None if found is None else found.__outboxd__.to

    def on_reply(self, batch: Batch, envelope: Envelope) -> None:
        """An answer came: to a call, or to an undo."""
        live = self._live(batch, envelope)
        if live is None or envelope.call is None or not _is_answer_to(live, envelope):
            return
        if envelope.undoes is not None:
            self._on_undo_answer(batch, live, envelope)
            return
        call = live.calls.get(envelope.call)
        if call is None or live.row.ended_at is not None:
            data = bytes(envelope.data)
            self.book.journal(batch, live, "late", envelope.call, envelope.type, data)
            return
        match envelope.outcome:
            case "died":
                self._on_death(batch, live, call, envelope)
                return
            case "replaying":
                self._on_replay(batch, live, call)
                return
        standing.free(self, batch, live, call)
        match envelope.outcome:
            case "ok":
                self._on_answer(batch, live, call, bytes(envelope.data))
            case "rejected":
                self._on_rejection(batch, live, call, _reason(envelope))
            case _ if live.row.is_forward:
                detail = f"{call.name}: {_reason(envelope)}"
                standing.stick(self, batch, live, "forward", detail, call)
            case _:
                reason = _reason(envelope) or "its dead letter was discarded"
                self.throw(batch, live, call, CallFailed(reason, call.name), "failed", True)

    def on_due(self, batch: Batch, envelope: Envelope) -> None:
        """A sleep ended, or a call's deadline passed."""
        live = self._live(batch, envelope)
        if live is None or live.row.ended_at is not None or live.row.state == "stuck":
            return
        call = live.calls.get(envelope.call or 0)
        if call is None or call.due_at is not None:
            return  # answered, or given a new deadline in the meantime
        if call.is_timer:
            self._resume(batch, live, call, "woke", b"null", None)
        elif live.row.is_forward and call.is_call:
            self.repeat(batch, live, call)
        else:
            error = timed_out(call.kind, call.name, call.span_s)
            self.throw(batch, live, call, error, "timed_out", True)

    def on_received(self, batch: Batch, envelope: Envelope, data: bytes) -> bool:
        """A message came that the saga waited for; False if it does so no more."""
        live = self._live(batch, envelope)
        call = None if live is None else live.calls.get(envelope.call or 0)
        if live is None or call is None or live.row.ended_at is not None:
            return False
        wanted = waits.receive_of(self.book.instance(batch, live), call).message
        try:
            value = decode_version(data, envelope.schemaversion, wanted)
        except Undecodable as err:
            # It was readable when it was taken.
            raise CodeChanged(call.pos, f"{call.name} {shown(data)}", str(err)) from err
        if envelope.schemaversion < wanted.__outboxd__.version:
            data = encode(value)  # what the journal keeps is of the version that its mark says
        self._resume(batch, live, call, "received", data, value)
        return True

    def fire(self, batch: Batch, saga_id: str, pos: int) -> bool:
        """A due time came: taken back here, so that it comes once. False if it is no longer due."""
        live = self.book.find(batch, saga_id)
        call = None if live is None else live.calls.get(pos)
        if call is None or call.due_at is None or call.due_at > batch.now:
            return False
        call.due_at = None
        self.book.save_call(batch, call)
        return True

    def _on_answer(self, batch: Batch, live: Live, call: CallRow, data: bytes) -> None:
        asked = waits.call_of(self.book.instance(batch, live), call)
        value = decode_data(data, reply_type(type(asked.command)))
        self._resume(batch, live, call, "ok", data, value)

    def _resume(
        self,
        batch: Batch,
        live: Live,
        call: CallRow,
        kind: str,
        data: bytes,
        value: Any,
        *,
        was_done: bool = True,
    ) -> None:
        """Ends a step with a value."""
        instance = self.book.instance(batch, live)
        self.waits.close(batch, live, waits.step_of(instance, call), kind, data)
        moved = instance.resume(batch.now, value, was_done=was_done, pos=call.pos)
        self._go_on(batch, live, instance, moved)

    def skip(self, batch: Batch, live: Live, call: CallRow, data: bytes, by: standing.By) -> None:
        """An operator answers a step with ``data``; a call is closed, so that it never runs late.

        Raises Undecodable if that is not what the step is answered with.
        """
        action = waits.step_of(self.book.instance(batch, live), call).action
        value = decode_data(data, answer_of(action))
        if call.is_call:
            self.ending.close(batch, live, call)
        said = encode({"value": msgspec.Raw(data), "who": by.who, "reason": by.reason})
        self._resume(batch, live, call, "skipped", said, value, was_done=False)

    def _on_rejection(self, batch: Batch, live: Live, call: CallRow, reason: str) -> None:
        if live.row.is_forward:
            detail = f"{call.name} was rejected: {reason}"
            standing.stick(self, batch, live, "forward", detail, call)
        else:
            self.throw(batch, live, call, Rejected(reason, call.name), "rejected", False)

    def _on_death(self, batch: Batch, live: Live, call: CallRow, envelope: Envelope) -> None:
        """The call became a dead letter: past the point of no return it is repeated."""
        reason = _reason(envelope)
        if live.row.is_forward and batch.now - call.sent_at < PATIENT_BUDGET_S:
            call.repeats += 1
            call.due_at = batch.now + PATIENT.ceiling_s(call.repeats + 4)
            self.book.save_call(batch, call)
            data = bytes(envelope.data)
            self.book.journal(batch, live, "repeated", call.pos, call.name, data)
            live.row.detail = f"{call.name} died ({reason}); it is repeated"
            self.book.save(batch, live)
        elif call.on_dead == "fail" and not live.row.is_forward:
            self.throw(batch, live, call, CallFailed(reason, call.name), "failed", True)
        else:
            standing.free(self, batch, live, call)
            standing.stick(self, batch, live, "letter", reason, call)

    def _on_replay(self, batch: Batch, live: Live, call: CallRow) -> None:
        """Somebody replays the letter that held the saga: the call has its whole time again."""
        standing.free(self, batch, live, call)
        if live.row.state != "stuck":
            call.due_at = batch.now + call.span_s
            self.book.save_call(batch, call)
        self.book.journal(batch, live, "resumed", call.pos, call.name)
        self.book.save(batch, live)

    def _on_undo_answer(self, batch: Batch, live: Live, envelope: Envelope) -> None:
        pos = envelope.call or 0
        if live.undos.get(pos) != "sent":
            return
        if envelope.outcome == "died":
            self.book.note_death(batch, live, pos, _reason(envelope))
            if live.row.stuck == "letter":
                # One reason at a time: the letter that holds the saga must go on holding it. Once
                # that is gone the saga stands for its undo.
                self.book.journal(batch, live, "undo_died", pos, envelope.type)
                return
            standing.unstick(self, batch, live, "undo")
            if live.row.state != "stuck":
                standing.stick(self, batch, live, "undo", _reason(envelope))
            return
        self.book.note_death(batch, live, pos, None)
        standing.unstick(self, batch, live, "undo")
        if envelope.outcome == "replaying":
            self.book.save(batch, live)
        else:
            self.ending.answered(batch, live, envelope)

    def throw(
        self,
        batch: Batch,
        live: Live,
        call: CallRow,
        error: SagaEnd,
        kind: str,
        may_have_run: bool,
    ) -> None:
        """Ends a step with an error; what may have run is closed at once, caught or not."""
        instance = self.book.instance(batch, live)
        step = waits.step_of(instance, call)
        self._close_failed(batch, live, call, step, error, kind, may_have_run)
        moved = instance.throw(batch.now, error, may_have_run=may_have_run, pos=call.pos)
        self._go_on(batch, live, instance, moved)

    def cancel(self, batch: Batch, live: Live, error: Cancelled) -> None:
        """Ends all that the saga waits for; the journal has the error at the first of it."""
        instance = self.book.instance(batch, live)
        steps = [waits.step_of(instance, call) for call in live.calls.values()]
        first = live.calls[steps[0].pos]
        self._close_failed(batch, live, first, steps[0], error, "cancelled", True)
        self._go_on(batch, live, instance, instance.cancel(batch.now, error))

    def _close_failed(
        self,
        batch: Batch,
        live: Live,
        call: CallRow,
        step: Step,
        error: SagaEnd,
        kind: str,
        may_have_run: bool,
    ) -> None:
        data = encode({"reason": _bare(error), "span_s": call.span_s})
        self.waits.close(batch, live, step, kind, data)
        if may_have_run and isinstance(step.action, Call):
            self.ending.ask(batch, live, Undo(step.pos, step.action))

    def _go_on(self, batch: Batch, live: Live, instance: Instance, moved: Moved) -> None:
        """A step has ended; with it may those have that stood beside it, and what they held."""
        self.waits.drop(batch, live, instance.dropped)
        standing.unstick(self, batch, live, "letter", "forward")
        self._drive(batch, live, instance, moved)

    def repeat(self, batch: Batch, live: Live, call: CallRow) -> None:
        """Past the point of no return: the same message again, under the same id."""
        if batch.now - call.sent_at >= PATIENT_BUDGET_S:
            detail = f"{call.name} was not answered for a day"
            standing.stick(self, batch, live, "forward", detail, call)
            return
        asked = waits.call_of(self.book.instance(batch, live), call)
        call.repeats += 1
        call.due_at = batch.now + call.span_s + PATIENT.ceiling_s(call.repeats)
        self.book.save_call(batch, call)
        asking.call(batch, live.row, call.pos, asked, call.due_at)
        self.book.journal(batch, live, "repeated", call.pos, call.name)
        self.book.save(batch, live)

    # Steps.

    def _drive(self, batch: Batch, live: Live, instance: Instance, moved: Moved) -> None:
        """Does what the code asks for until it has to wait or comes to its end."""
        while isinstance(moved, Step) and not isinstance(moved.action, WAITS):
            moved = self._at_once(batch, live, instance, moved)
        if isinstance(moved, (Step, Steps)):
            steps = (moved,) if isinstance(moved, Step) else moved.steps
            self.waits.begin(batch, live, instance, steps)
            return
        live.row.is_forward = int(instance.saga.is_forward_only)
        if isinstance(moved, Returned):
            live.row.result, live.row.ending = encode(moved.value), "completed"
            self.ending.end_if_answered(batch, live)
        else:
            self._unwound(batch, live, moved.error)

    def _at_once(self, batch: Batch, live: Live, instance: Instance, step: Step) -> Moved:
        """Does what nobody has to wait for."""
        value = None
        match step.action:
            case Run(fn=fn, args=args, kwargs=kwargs):
                value = self.ending.run(batch, live, step.pos, fn, args, kwargs)
                self.book.journal_step(batch, live, "run", step, encode(value))
            case Send() | Publish() | Start() as action:
                self.ending.tell(batch, live, step.pos, action)
                self.book.journal_step(batch, live, TOLD[step.kind], step, b"null")
        return instance.resume(batch.now, value)

    def _unwound(self, batch: Batch, live: Live, error: SagaEnd) -> None:
        if live.row.is_forward:
            raise SagaMisuse(f"the saga failed after its point of no return: {error}") from error
        live.row.ending = "cancelled" if isinstance(error, Cancelled) else "compensated"
        live.row.reason = _said(error)
        self.book.become(live, "compensating")
        live.row.stuck = live.row.detail = None
        self.ending.unwind(batch, live)
        standing.stand_for_undo(self, batch, live)

    def _live(self, batch: Batch, envelope: Envelope) -> Live | None:
        live = self.book.find(batch, envelope.correlationid or "")
        if live is not None and live.row.stuck in ("bug", "code changed"):
            raise Parked(live.row.id)
        return live


def _is_answer_to(live: Live, envelope: Envelope) -> bool:
    """Whether it is one, and not to an earlier saga of this key, which is forgotten."""
    cause = envelope.causationid or ""
    return not live.row.born or cause.startswith(f"{live.row.sends_as}#")


def _reason(envelope: Envelope) -> str:
    said = msgspec.json.decode(envelope.data)
    return str(said.get("reason", "")) if isinstance(said, dict) else ""


def _bare(error: SagaEnd) -> str:
    return brief(getattr(error, "reason", "")) or brief(error)


def _said(error: SagaEnd) -> str:
    command = getattr(error, "command", "")
    said = brief(error)
    return f"{command}: {said}" if command and command not in said else said
