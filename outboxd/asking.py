"""What a saga sends when it asks: a call, the start of another saga, a question for its result.

Each has the position of its step in its id, so that the same step is always the same message.
"""

from __future__ import annotations

from datetime import datetime

from .batch import Batch
from .clock import utc
from .message import Command, Envelope, encode_raw, in_stream, key_of
from .saga import Call, Join, Start
from .store.journal import SagaRow


def call(batch: Batch, row: SagaRow, pos: int, asked: Call | Join, due_at: float) -> str:
    """Sends what is to be answered by ``due_at`` (UTC seconds); returns its id."""
    if isinstance(asked, Join):
        started = message_id(row, asked.start)
        envelope = _envelope(batch, row, pos, asked.command, "join", utc(due_at), started)
    else:
        envelope = _envelope(batch, row, pos, asked.command, "command", utc(due_at))
    batch.send(in_stream(asked.command.__outboxd__.to or ""), envelope)
    return envelope.id


def start(batch: Batch, row: SagaRow, pos: int, action: Start) -> None:
    """Sends a call that nobody waits for: whoever wants its result asks for it."""
    envelope = _envelope(batch, row, pos, action.command, "command")
    batch.send(in_stream(action.command.__outboxd__.to or ""), envelope)


def message_id(row: SagaRow, pos: int) -> str:
    """The id of what the step at ``pos`` sends."""
    return f"{row.sends_as}#{pos}"


def undo_id(row: SagaRow, pos: int) -> str:
    """The id of the message that undoes or closes the step at ``pos``."""
    return f"{message_id(row, pos)}~undo"


def _envelope(
    batch: Batch,
    row: SagaRow,
    pos: int,
    command: Command[object],
    kind: str,
    deadline: datetime | None = None,
    cause: str | None = None,
) -> Envelope:
    return Envelope(
        specversion="1.0",
        id=message_id(row, pos),
        type=type(command).__name__,
        source=batch.sender,
        time=batch.time,
        subject=key_of(command),
        data=encode_raw(command),
        kind=kind,
        correlationid=row.id,
        causationid=cause,
        replyto=None if deadline is None else batch.sender,
        call=pos,
        deadline=deadline,
        schemaversion=command.__outboxd__.version,
    )
