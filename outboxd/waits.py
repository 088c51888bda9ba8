"""What a saga waits for, in its database: steps that begin side by side, end, or are dropped."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from . import asking
from .batch import Batch
from .book import DROPPED, Book, Live
from .ending import Ending
from .errors import CodeChanged
from .instance import Instance
from .replay import said
from .saga import Call, Join, Sleep, Step, Undo
from .steps import Receive, Until
from .store.journal import CallRow

SHOWN = 3
"""So many of the steps that are waited for are named in a list of sagas."""


class Waits:
    """Opens and closes what the sagas of one participant wait for."""

    def __init__(self, book: Book, ending: Ending) -> None:
        self._book = book
        self._ending = ending

    def begin(self, batch: Batch, live: Live, instance: Instance, steps: tuple[Step, ...]) -> None:
        """The saga waits for these too, each with its deadline."""
        for step in steps:
            self._book.journal_step(batch, live, step.kind, step, None)
            self._book.open_call(batch, live, self._opened(batch, live, step))
        row = live.row
        row.is_forward = int(instance.saga.is_forward_only)
        row.step = label(instance.open.values())
        if row.state != "stuck":
            row.detail = None
        self._book.save(batch, live)

    def close(self, batch: Batch, live: Live, step: Step, kind: str, data: bytes) -> None:
        """A step has ended, as ``kind`` tells."""
        self._book.close_call(batch, live, step.pos)
        self._book.journal_step(batch, live, kind, step, data)

    def drop(self, batch: Batch, live: Live, steps: tuple[Step, ...]) -> None:
        """Nobody waits for these any more; what may have run is closed, and undone."""
        for step in steps:
            if step.pos not in live.calls:
                continue
            self._book.close_call(batch, live, step.pos)
            self._book.journal_step(batch, live, DROPPED, step, None)
            if isinstance(step.action, Call):
                self._ending.ask(batch, live, Undo(step.pos, step.action))

    def _opened(self, batch: Batch, live: Live, step: Step) -> CallRow:
        action = step.action
        row = CallRow(
            saga=live.row.id,
            pos=step.pos,
            id=asking.message_id(live.row, step.pos),
            name="sleep",
            to_name="",
            sent_at=batch.now,
            span_s=0.0,
            due_at=None,
            strict=1,
            on_dead="hold",
            repeats=0,
            kind=step.kind,
        )
        match action:
            case Call() | Join():
                row.name, row.to_name = step.name, action.command.__outboxd__.to or ""
                row.span_s, row.strict = action.timeout_s, int(action.strict)
                row.on_dead = action.on_dead
                asking.call(batch, live.row, step.pos, action, batch.now + row.span_s)
            case Receive():
                row.name, row.key = step.name, action.key
                row.span_s, row.strict = action.timeout_s, int(action.strict)
            case Sleep(span_s=span_s):
                row.span_s = span_s
            case Until(at=at):
                row.span_s = at - batch.now
        row.due_at = batch.now + row.span_s
        return row


def step_of(instance: Instance, call: CallRow) -> Step:
    """The step that the code waits for; raises CodeChanged if it waits for another."""
    step = instance.open.get(call.pos)
    if step is None:
        raise CodeChanged(call.pos, f"{call.kind} {call.name}", said(instance))
    return step


def call_of(instance: Instance, call: CallRow) -> Call | Join:
    """The call that the code waits for; raises CodeChanged if it waits for something else."""
    step = step_of(instance, call)
    if not isinstance(step.action, (Call, Join)):
        raise CodeChanged(call.pos, "a call", said(instance))
    return step.action


def receive_of(instance: Instance, call: CallRow) -> Receive:
    """The receive that the code waits for; raises CodeChanged if it waits for something else."""
    action = step_of(instance, call).action
    if not isinstance(action, Receive):
        raise CodeChanged(call.pos, f"receive {call.name}", said(instance))
    return action


def label(steps: Collection[Step]) -> str:
    """What a saga is at, in a few words, however many they are."""
    names = [
        f"{step.kind} {step.name}" if step.kind in ("sleep", "until") else step.name
        for step in islice(steps, SHOWN)
    ]
    more = len(steps) - SHOWN
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
