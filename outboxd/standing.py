"""Sagas that stand: how they come to be stuck, and what an operator can do with any saga."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .batch import Batch
from .book import Live
from .errors import Cancelled, CodeChanged, Refused
from .message import (
    Envelope,
    brief,
    decode_data,
    decode_envelope,
    decode_message,
    encode,
    key_of,
)
from .registry import SagaKind
from .saga import where
from .store import inbox, journal
from .store.journal import CallRow

if TYPE_CHECKING:
    from .conductor import Conductor


KILLED = "killed: "
"""How the reason begins of a saga whose work stays as it was."""

_INSTEAD = "retry makes it again, resolve ends it as you say"


class By(msgspec.Struct, frozen=True):
    """Who did it to a saga, and why."""

    who: str
    reason: str


def stick(
    conductor: Conductor,
    batch: Batch,
    live: Live,
    kind: str,
    detail: str,
    by: CallRow | None = None,
) -> None:
    """The saga stands, visibly; its deadlines are suspended. ``by``: the call that holds it."""
    book = conductor.book
    if by is not None:
        by.stuck, by.detail = kind, detail
    for call in live.calls.values():
        call.due_at = None
        book.save_call(batch, call)
    book.become(live, "stuck")
    live.row.stuck, live.row.detail = kind, detail
    last = detail.strip().splitlines()[-1] if detail.strip() else ""
    book.journal(batch, live, "stuck", 0, kind, encode({"detail": last}))
    book.save(batch, live)
    batch.note("saga_stuck", saga=live.row.id, kind=kind, detail=last)


def unstick(conductor: Conductor, batch: Batch, live: Live, *kinds: str) -> None:
    """It moves again, if it stood for one of these reasons; its calls have their time again.

    If one of its calls holds it all the same, or an undo has died, it stands for that.
    """
    row = live.row
    if row.state != "stuck" or row.stuck not in kinds:
        return
    holding = next((call for call in live.calls.values() if call.stuck), None)
    if holding is not None:
        row.stuck, row.detail = holding.stuck, holding.detail
        conductor.book.save(batch, live)
        return
    if live.died:
        row.stuck, row.detail = "undo", next(iter(live.died.values()))
        conductor.book.save(batch, live)
        return
    is_unwinding = row.ending in ("compensated", "cancelled")
    conductor.book.become(live, "compensating" if is_unwinding else "running")
    row.stuck = row.detail = None
    for call in live.calls.values():
        call.due_at = _due_again(call, batch.now)
        conductor.book.save_call(batch, call)


def stand_for_undo(conductor: Conductor, batch: Batch, live: Live) -> None:
    """A saga that unwinds while one of its undos is dead waits for a person, and says so."""
    if live.died and live.row.ended_at is None and live.row.state != "stuck":
        stick(conductor, batch, live, "undo", next(iter(live.died.values())))


def free(conductor: Conductor, batch: Batch, live: Live, call: CallRow) -> None:
    """This call holds the saga no more; another one may."""
    if call.stuck is not None:
        call.stuck = call.detail = None
        conductor.book.save_call(batch, call)
    unstick(conductor, batch, live, "letter", "forward")


def _due_again(call: CallRow, now: float) -> float | None:
    """The deadline of a call whose time was suspended; a moment of the clock stays where it is."""
    if call.kind == "until":
        return call.sent_at + call.span_s
    return None if call.is_here else now + call.span_s


def stick_unanswered(conductor: Conductor, batch: Batch, saga_id: str, pos: int, name: str) -> None:
    """An undo was not answered within the patient budget: nothing waits silently."""
    live = conductor.book.find(batch, saga_id)
    if live is None:
        return
    conductor.book.set_undo(batch, live, pos, name, "sent")  # looked at again after as long
    if live.row.state != "stuck" and live.row.ended_at is None:
        stick(conductor, batch, live, "undo", f"{name} was not answered for a day")


def stick_on_bug(
    conductor: Conductor,
    batch: Batch,
    envelope: Envelope,
    body: bytes,
    kind: SagaKind | None,
    error: Exception,
) -> str | None:
    """Every try of a step ended with a bug: nothing of it was kept. Returns the saga's id."""
    if kind is None:
        live = conductor.book.find(batch, envelope.correlationid or "")
    else:
        key = key_of(decode_message(envelope, kind.message)) or ""
        live, round_ = conductor.beginning.started_by(batch, envelope, kind, key)
        live = live or conductor.beginning.add(batch, kind, key, round_, body)
    if live is None or live.row.ended_at is not None:
        return None
    if isinstance(error, CodeChanged):
        stick(conductor, batch, live, "code changed", brief(error))
    else:
        stick(conductor, batch, live, "bug", where(error))
    return live.row.id


def retry(conductor: Conductor, batch: Batch, saga_id: str) -> None:
    """After a fix: the step that failed is made again. Raises Refused where that is not it."""
    live = _open(conductor, batch, saga_id)
    row = live.row
    if row.state != "stuck":
        raise Refused(f"{saga_id} is {row.state}, not stuck")
    if row.stuck in ("letter", "undo"):
        is_letter = "/d-" in (row.detail or "")
        raise Refused(
            f"{saga_id} is stuck on a dead letter" if is_letter else f"{saga_id}: {row.detail}",
            hint=f"outboxd dead replay LETTER lets it go on: {row.detail}" if is_letter else None,
        )
    forward = [again for again in live.calls.values() if again.stuck == "forward"]
    for again in forward:
        again.stuck = again.detail = None
        conductor.book.save_call(batch, again)
    unstick(conductor, batch, live, row.stuck or "")
    for held in inbox.held_for(batch.connection, saga_id):
        call = live.calls.get(decode_envelope(held.body).call or 0)
        if held.type == "due" and call is not None:
            call.due_at = None  # its time has come already: the held message says so
            conductor.book.save_call(batch, call)
    conductor.book.journal(batch, live, "resumed", 0, "retry")
    conductor.book.save(batch, live)
    for again in forward:
        again.sent_at = batch.now
        conductor.repeat(batch, live, again)


def cancel(conductor: Conductor, batch: Batch, saga_id: str, reason: str) -> None:
    """Raises Cancelled in the saga's code, which unwinds its undos."""
    live = _open(conductor, batch, saga_id)
    row = live.row
    if row.is_forward:
        raise Refused(f"{saga_id} is past its point of no return")
    if row.state == "compensating" or row.ending is not None:
        raise Refused(f"{saga_id} is already ending as {row.ending}")
    for call in live.calls.values():
        call.stuck = None
    unstick(conductor, batch, live, row.stuck or "")
    error = Cancelled(reason or "cancelled by an operator")
    if live.calls:
        conductor.cancel(batch, live, error)
        return
    row.ending, row.reason = "cancelled", str(error)
    conductor.ending.end_if_answered(batch, live)


def skip(
    conductor: Conductor, batch: Batch, saga_id: str, step: int | None, value: bytes, by: By
) -> None:
    """The step that the saga waits for is answered by an operator, with ``value``.

    An undo is answered with null: the operator says that nothing is left to undo. Either way it
    does not run later. Raises Refused where it waits for no step, or for several.
    """
    live = _open(conductor, batch, saga_id)
    pos = _waited_for(live, step)
    call = live.calls.get(pos)
    if call is not None:
        call.stuck = call.detail = None
    else:
        live.died.pop(pos, None)
    unstick(conductor, batch, live, live.row.stuck or "")
    if call is not None:
        conductor.skip(batch, live, call, value, by)
        return
    decode_data(value, None)
    name = journal.undo_name(batch.connection, saga_id, pos)
    _settle_undo(conductor, batch, live, pos, name)
    conductor.book.journal(batch, live, "undo_skipped", pos, name, encode(by))
    conductor.ending.go_on(batch, live)


def resolve(
    conductor: Conductor, batch: Batch, saga_id: str, state: str, result: bytes, by: By
) -> None:
    """Ends the saga as an operator says that it has ended; nothing more is done.

    Whoever waits for it is answered with ``result`` if it is "completed", else told "no".
    """
    live = _open(conductor, batch, saga_id)
    row = live.row
    if state == "completed":
        kind = conductor.kind_of(row)
        decode_data(result, Any if kind is None else kind.result)
        row.result = result
    else:
        row.reason = by.reason
    _give_up(conductor, batch, live)
    row.ending = state
    conductor.book.journal(batch, live, "resolved", 0, state, encode(by))
    conductor.ending.end_if_answered(batch, live)


def kill(conductor: Conductor, batch: Batch, saga_id: str, reason: str) -> None:
    """Ends the saga as it stands; nothing is undone."""
    live = _open(conductor, batch, saga_id)
    _give_up(conductor, batch, live)
    live.row.ending, live.row.reason = "cancelled", f"{KILLED}{reason}"
    conductor.ending.end_if_answered(batch, live)


def _give_up(conductor: Conductor, batch: Batch, live: Live) -> None:
    """Nobody waits any more; what was asked for and has not begun does not run any more either."""
    for call in list(live.calls.values()):
        if call.is_call:
            conductor.ending.leave(batch, live, call)
        conductor.book.close_call(batch, live, call.pos)
    for pos in _asked_undos(live):
        name = journal.undo_name(batch.connection, live.row.id, pos)
        _settle_undo(conductor, batch, live, pos, name)


def _settle_undo(conductor: Conductor, batch: Batch, live: Live, pos: int, name: str) -> None:
    """Its addressee is told, as far as the code that runs now still knows who that is."""
    conductor.ending.settle_undo(batch, live, pos, conductor.addressee(name), name)


def _asked_undos(live: Live) -> list[int]:
    return [pos for pos, state in live.undos.items() if state == "sent"]


def _waited_for(live: Live, step: int | None) -> int:
    """The step to skip: the one that was named, or the only one."""
    steps = list(live.calls) or _asked_undos(live)
    if step is not None and step in (*live.calls, *_asked_undos(live)):
        return step
    if step is None and len(steps) == 1:
        return steps[0]
    if not steps:
        raise Refused(f"{live.row.id} waits for no step", hint=_INSTEAD)
    said = ", ".join(map(str, steps))
    raise Refused(f"{live.row.id} waits for step {said}", hint="name one with --step")


def _open(conductor: Conductor, batch: Batch, saga_id: str) -> Live:
    live = conductor.book.find(batch, saga_id)
    if live is None:
        raise Refused(f"there is no saga {saga_id}")
    if live.row.ended_at is not None:
        raise Refused(f"{saga_id} has ended: {live.row.state}")
    return live
