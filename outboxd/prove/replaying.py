"""The journal of an ended saga, replayed against its code: its calls, and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from outboxd import asking, book
from outboxd.errors import CodeChanged, OutboxdError
from outboxd.registry import Registry
from outboxd.saga import Call, Recorded, Start, Step
from outboxd.store import journal

from .waiting import waits_at

if TYPE_CHECKING:
    from .node import Node


class Dropped(Exception):
    """What a call stood beside has ended."""


class MadeCall(msgspec.Struct, frozen=True):
    """A call of a saga. ``end``: how it ended for the saga."""

    pos: int
    name: str
    to: str
    message_id: str
    has_undo: bool
    end: str


def calls_of(node: Node, registry: Registry, saga_id: str) -> list[MadeCall]:
    """Raises CodeChanged, with the line as a note, where the code asks for something else."""
    row = journal.get_saga(node.connection, saga_id)
    if row is None or registry.saga_named(node.name, row.name) is None:
        return []
    instance = book.unbegun(registry, node.name, row)
    found: list[MadeCall] = []

    def ended(step: Step, record: Recorded) -> None:
        if isinstance(step.action, (Call, Start)):
            found.append(_made(step, step.action, row, record.error))
        found.extend(
            _made(dropped, dropped.action, row, Dropped())
            for dropped in instance.dropped
            if dropped is not step and isinstance(dropped.action, Call)
        )

    try:
        book.catch_up(instance, row.started_at, journal.rows(node.connection, saga_id), ended)
    except CodeChanged as err:
        err.add_note(waits_at(instance.coroutine))
        raise
    except OutboxdError:
        pass
    finally:
        instance.drop()
    return found


def _made(
    step: Step, call: Call | Start, row: journal.SagaRow, error: Exception | None
) -> MadeCall:
    return MadeCall(
        step.pos,
        step.name,
        call.command.__outboxd__.to or "",
        asking.message_id(row, step.pos),
        call.undo is not None,
        "ok" if error is None else type(error).__name__,
    )
