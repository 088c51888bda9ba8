"""Messages that are under way: in an outbox, delayed, or held in an inbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from outboxd.clock import utc
from outboxd.errors import ConfigError, NotFound
from outboxd.message import Envelope, Undecodable, decode_envelope, stream_name
from outboxd.store.connection import Connection
from outboxd.store.reading import messages as reading
from outboxd.store.reading.filters import Term
from outboxd.store.reading.messages import Place, Queued

from .files import Files
from .letters import opened, saga_of

_LOOKED_AT = 2_000
"""A filter looks at so many messages of each outbox and inbox: their types lie in their bodies."""

State = Literal["sending", "delayed", "queued", "retrying", "running", "held"]


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One message. ``participant``: whose database it is in; ``state``: sending (in the outbox),
    delayed, queued, retrying, running or held (in the inbox); ``saga``: the one it belongs to.
    """

    id: str
    type: str
    key: str | None
    sender: str
    to: str
    participant: str
    state: State
    tries: int
    at: datetime | None
    due_at: datetime | None
    error: str | None
    saga: str | None


class MessageDetail(msgspec.Struct, frozen=True, kw_only=True):
    """``envelope``: its attributes, ``data`` its payload; where it is no envelope, ``text``."""

    id: str
    envelope: dict[str, Any]
    data: Any
    text: str | None


def page(files: Files, terms: Sequence[Term], limit: int) -> list[MessageRow]:
    """Messages that match: what fails first, then what is oldest."""
    found = [
        row
        for name in files.participants()
        for row in _of(files, name, limit if not terms else _LOOKED_AT)
        if all(_matches(row, term) is not term.is_not for term in terms)
    ]
    found.sort(key=lambda row: (_RANK[row.state], (row.at or row.due_at or _NEVER)))
    return found[:limit]


def detail(files: Files, message_id: str) -> MessageDetail:
    """One message that is under way; raises NotFound."""
    for name in files.participants():
        with files.read(name) as connection:
            body = reading.body_of(connection, message_id)
        if body is not None:
            envelope, data, text = opened(body)
            return MessageDetail(id=message_id, envelope=envelope, data=data, text=text)
    raise NotFound(f"{message_id} is no longer under way")


_RANK = {"held": 0, "retrying": 1, "running": 2, "queued": 3, "sending": 4, "delayed": 5}
_NEVER = utc(253402300799)


def _of(files: Files, name: str, limit: int) -> Iterable[MessageRow]:
    with files.read(name) as connection:
        places, queued = _rows(connection, limit)
    yield from (_held(name, place) for place in places)
    yield from (_queued(name, row) for row in queued)


def _rows(connection: Connection, limit: int) -> tuple[list[Place], list[Queued]]:
    outbox = reading.outbox_rows(connection, limit)
    return reading.inbox_rows(connection, limit), outbox + reading.delayed_rows(connection, limit)


def _held(name: str, place: Place) -> MessageRow:
    return MessageRow(
        id=place.id,
        type=place.type,
        key=place.key,
        sender=_sender(place),
        to=name,
        participant=name,
        state=_state(place),
        tries=place.attempts,
        at=utc(place.at),
        due_at=utc(place.due_at) if place.state == "waiting" and place.attempts else None,
        error=place.error,
        saga=saga_of(place.id.partition(":")[0]),
    )


def _sender(place: Place) -> str:
    """Who has no numbers of its own is counted under "*"; the lane is named by who it is."""
    source, is_named, _ = place.lane.partition("|")
    return source if place.sender == "*" and is_named else place.sender


def _state(place: Place) -> State:
    if place.state == "held":
        return "held"
    if place.state == "running":
        return "running"
    return "retrying" if place.attempts else "queued"


def _queued(name: str, row: Queued) -> MessageRow:
    owner, kind = stream_name(row.stream)
    envelope = _decoded(row.body)
    message_id = "?" if envelope is None else envelope.id
    return MessageRow(
        id=message_id,
        type="?" if envelope is None else envelope.type,
        key=None if envelope is None else envelope.subject,
        sender=name,
        to=owner if kind == "in" else "subscribers",
        participant=name,
        state="sending" if row.due_at is None else "delayed",
        tries=0,
        at=None if row.at is None else utc(row.at),
        due_at=None if row.due_at is None else utc(row.due_at),
        error=None,
        saga=saga_of(message_id.partition(":")[0]),
    )


def _decoded(body: bytes) -> Envelope | None:
    try:
        return decode_envelope(body)
    except Undecodable:
        return None


def _matches(row: MessageRow, term: Term) -> bool:
    if term.field == "try":
        return _compares(row.tries, term)
    texts = {
        "state": row.state,
        "type": row.type,
        "key": row.key or "",
        "id": row.id,
        "participant": f"{row.participant} {row.to}",
        "error": row.error or "",
    }
    if term.field and term.field not in texts:
        raise ConfigError(f"messages have no field {term.field!r}")
    asked = [texts[term.field]] if term.field else list(texts.values())
    return any(str(value).lower() in text.lower() for value in term.values for text in asked)


def _compares(tries: int, term: Term) -> bool:
    number: int = term.values[0]
    if term.op == "<":
        return tries < number
    return tries > number if term.op == ">" else tries == number
