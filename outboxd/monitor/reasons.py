"""``why``: what a saga, a letter or any message waits for, and which commands would move it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from outboxd.clock import in_words
from outboxd.errors import NotFound
from outboxd.store import fence
from outboxd.store.connection import Connection
from outboxd.store.reading import letters as letter_reading
from outboxd.store.reading import messages

from . import letters, saga, sagas, whereabouts
from .files import Files


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """``waits_for``: sentences, none for what waits for nothing; ``moves``: commands."""

    id: str
    kind: Literal["saga", "letter", "message"]
    state: str
    waits_for: tuple[str, ...]
    moves: tuple[str, ...]


def why(files: Files, name: str, now: float) -> Why:
    """Explains a saga (by id or key), a letter (d-7) or a message (by id); raises NotFound."""
    try:
        return _saga(files, sagas.find(files, name), now)
    except NotFound:
        pass
    if letters.is_name(name):
        return _letter(files, name, now)
    return _message(files, name, now)


def _saga(files: Files, saga_id: str, now: float) -> Why:
    detail = saga.detail(files, saga_id, now)
    return Why(
        id=saga_id,
        kind="saga",
        state=detail.saga.state,
        waits_for=detail.waits_for,
        moves=detail.moves,
    )


def _letter(files: Files, name: str, now: float) -> Why:
    row = letters.detail(files, name).letter
    waits = []
    if row.state == "dead":
        age = in_words(now - row.at.timestamp())
        waits.append(f"for a person, for {age}: {row.error_type}: {row.error}")
        if row.saga is not None:
            waits.append(f"the saga {row.saga} waits for it")
    elif row.state == "replaying":
        waits.append(f"for {row.participant} to handle it again")
    return Why(
        id=row.name,
        kind="letter",
        state=row.state,
        waits_for=tuple(waits),
        moves=letters.moves(row),
    )


def _message(files: Files, message_id: str, now: float) -> Why:
    waits: list[str] = []
    moves: list[str] = []
    for name in files.participants():
        with files.read(name) as connection:
            listed = letter_reading.letter_of(connection, message_id)
            waits += _at(connection, name, message_id, now)
        if listed is not None and listed.state == "dead":
            row = letters.row_of(files, name, listed)
            waits.append(f"for a person: it is dead letter {row.name} of {name}: {row.error}")
            moves += letters.moves(row)
    if not waits:
        raise NotFound(
            f"nothing here waits under the name {message_id!r}",
            hint="a handled message leaves no row; see outboxd saga list and outboxd dead list",
        )
    return Why(
        id=message_id,
        kind="message",
        state="dead" if moves else "under way",
        waits_for=tuple(waits),
        moves=tuple(moves),
    )


def _at(connection: Connection, name: str, message_id: str, now: float) -> Iterable[str]:
    for stream, at in messages.anywhere_in_outbox(connection, message_id):
        if at > now:
            yield f"for its time: {name} sends it to {stream} in {in_words(at - now)}"
        else:
            yield f"for {stream}: in the outbox of {name} for {in_words(now - at)}"
    place = messages.in_inbox(connection, [message_id]).get(message_id)
    if place is not None and place.letter is None:
        ahead = messages.ahead_of(connection, place)
        yield f"for {name}: it {whereabouts.in_inbox(place, ahead, now)}"
    known = fence.get(connection, message_id)
    if known is not None:
        yield f"for nothing at {name}: the call is {known.state} there"
