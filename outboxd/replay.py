"""Journal → coroutine: a saga is rebuilt, step by step, or it is shown where its code has changed.

Completions come in the order in which they once came, so whatever ran side by side runs again as it
did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from .errors import Cancelled, CodeChanged, SagaEnd
from .steps import Step, content_of, is_marked, is_named

if TYPE_CHECKING:
    from .instance import Instance, Moved


class Recorded(msgspec.Struct, frozen=True):
    """A finished step of the journal: what was asked, and how it ended."""

    pos: int
    kind: str
    name: str
    mark: int
    at: float
    value: Any = None
    error: SagaEnd | None = None
    may_have_run: bool = False


Ended = Callable[[Step, Recorded], None]
"""Hears of each step that a replay has ended."""


def nothing(step: Step, record: Recorded) -> None: ...


def replay(
    instance: Instance,
    started_at: float,
    journal: list[Recorded],
    decode: Callable[[Step, Recorded], Any],
    ended: Ended = nothing,
) -> Moved:
    """Rebuilds ``instance`` from its journal; returns what its code asks for now.

    ``decode(step, record)`` turns a recorded value into the object that the code got.
    Raises CodeChanged if the code asks for something else than the journal has.
    """
    moved = instance.start(started_at)
    for record in journal:
        step = asked_at(instance, record.pos, record.kind, record.name, record.mark)
        moved = _end(instance, step, record, decode)
        ended(step, record)
    return moved


def _end(
    instance: Instance, step: Step, record: Recorded, decode: Callable[[Step, Recorded], Any]
) -> Moved:
    """Ends one step as the journal has it."""
    pos, at = record.pos, record.at
    if isinstance(record.error, Cancelled):
        return instance.cancel(at, record.error)
    if record.error is not None:
        return instance.throw(at, record.error, may_have_run=record.may_have_run, pos=pos)
    value = decode(step, record)
    return instance.resume(at, value, was_done=not record.may_have_run, pos=pos)


def asked_at(instance: Instance, pos: int, kind: str, name: str, mark: int) -> Step:
    """The step that the code waits for at ``pos``, if it is what the journal has there."""
    step = instance.open.get(pos)
    if step is None:
        raise CodeChanged(pos, f"{kind} {name}", said(instance))
    check(step, pos, kind, name, mark)
    return step


def said(instance: Instance) -> str:
    """What the code asks for now, for a person."""
    steps = [f"{step.kind} {step.name} (step {step.pos})" for step in instance.open.values()]
    return ", ".join(steps) or "the end"


def check(step: Step, pos: int, kind: str, name: str, mark: int) -> None:
    """Raises CodeChanged unless ``step`` is what the journal recorded."""
    if (step.pos, step.kind) != (pos, kind) or not is_named(step.action, name):
        is_content = kind == step.kind and kind in ("sleep", "until")
        asked = f"{step.kind} {step.name} (step {step.pos})"
        raise CodeChanged(pos, f"{kind} {name}", asked, is_content=is_content)
    if step.mark != mark and not is_marked(step.action, name, mark):
        asked = f"{step.kind} {step.name} {content_of(step.action)}".rstrip()
        recorded = f"{kind} {name} with other content"
        raise CodeChanged(pos, recorded, asked, is_content=True)
