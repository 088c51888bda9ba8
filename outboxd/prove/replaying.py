"""The journal of an ended saga, replayed against its code: its calls, and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from outboxd import asking, book
from outboxd.errors import CodeChanged, OutboxdError
from outboxd.message import decode_envelope, decode_message
from outboxd.registry import Registry
from outboxd.replay import feed
from outboxd.saga import Call, Instance, Saga, Start, Step, check
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
    kind = None if row is None else registry.saga_named(node.name, row.name)
    if row is None or kind is None:
        return []
    message = decode_message(decode_envelope(row.start), kind.message)
    saga = Saga(row.id, row.key, row.version, kind.spec.receives)
    instance = Instance(saga, kind.spec.fn, message)
    recorded, begun = book._recorded(journal.rows(node.connection, saga_id))
    found: list[MadeCall] = []
    try:
        instance.start(row.started_at)
        for record in recorded:
            step = instance.open.get(record.pos)
            feed(instance, record, book._decoded)
            if step is not None and isinstance(step.action, (Call, Start)):
                found.append(_made(step, step.action, row, record.error))
            found += [
                _made(dropped, dropped.action, row, Dropped())
                for dropped in instance.dropped
                if dropped is not step and isinstance(dropped.action, Call)
            ]
        for open_ in begun.values():
            asked = instance.open.get(open_.pos)
            if asked is not None:
                check(asked, open_.pos, open_.kind, open_.name, open_.mark)
    except CodeChanged as err:
        err.add_note(waits_at(instance._coroutine))
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
