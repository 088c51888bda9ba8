"""Where a message that a saga waits for is now, in words: inbox, letter, outbox, or on its way."""

from __future__ import annotations

import msgspec

from outboxd.clock import in_words
from outboxd.message import in_stream
from outboxd.store import control, fence
from outboxd.store.connection import Connection
from outboxd.store.inbox import senders
from outboxd.store.reading import letters, messages, sagas
from outboxd.store.reading.messages import Place
from outboxd.store.reading.sagas import OpenCall
from outboxd.store.timers import SLEEP

from .files import Files
from .letters import row_of


class Whereabouts(msgspec.Struct, frozen=True):
    """``text``: a sentence; ``letter``: its name, if a person must deal with a dead letter."""

    text: str
    letter: str | None = None


def of(files: Files, participant: str, call: OpenCall, now: float) -> Whereabouts:
    """What became of a call, a sleep or an undo of one of ``participant``'s sagas."""
    if call.name == SLEEP:
        return Whereabouts(f"for time to pass: it sleeps{_until(call.due_at, now)}")
    to = call.to_name or _owner(files, call.name)
    what = f"for {to or 'an answer'}: {call.name} ({call.id})"
    found = (
        _at_receiver(files, to, call.id, now)
        or _answer_here(files, participant, call.id, now)
        or _on_the_way(files, participant, to, call.id, now)
    )
    limit = ""
    if call.due_at is not None:
        limit = (
            f"; its deadline{' passed ' if call.due_at < now else ' is '}{_when(call.due_at, now)}"
        )
    return Whereabouts(f"{what} {found.text}{limit}", found.letter)


def _at_receiver(files: Files, to: str | None, message_id: str, now: float) -> Whereabouts | None:
    if to is None:
        return None
    if not files.has(to):
        return Whereabouts(f"has an addressee, {to}, that is not hosted in this data directory")
    with files.read(to) as connection:
        place = messages.in_inbox(connection, [message_id]).get(message_id)
        ahead = None if place is None else messages.ahead_of(connection, place)
        letter = letters.letter_of(connection, message_id)
        known = fence.get(connection, message_id)
        child = _child(connection, known) or _awaited(connection, message_id)
    if letter is not None and letter.state == "dead":
        row = row_of(files, to, letter)
        said = f"has been dead letter {row.name} for {in_words(now - letter.at)}"
        return Whereabouts(f"{said}: {row.error_type}: {_line(row.error)}", row.name)
    if place is not None:
        return Whereabouts(in_inbox(place, ahead, now))
    if child is not None and child.ended_at is None:
        said = "has started" if known is not None else "waits there for the end of"
        return Whereabouts(f"{said} the saga {child.id}, which is {child.state}")
    if known is not None:
        return Whereabouts(f"is {known.state} there, and the answer is on its way")
    return None


def _child(connection: Connection, known: fence.Fence | None) -> sagas.Instance | None:
    """The saga that a call has started where it was handled."""
    if known is None or known.state != "started" or known.result is None:
        return None
    return sagas.saga(connection, msgspec.json.decode(known.result, type=str))


def _awaited(connection: Connection, message_id: str) -> sagas.Instance | None:
    """The saga for whose end a message waits where it was handled."""
    saga_id = sagas.awaited_by(connection, message_id)
    return None if saga_id is None else sagas.saga(connection, saga_id)


def in_inbox(place: Place, ahead: Place | None, now: float) -> str:
    """What a message does in the inbox where it is."""
    error = f": {_line(place.error)}" if place.error else ""
    if place.state == "running":
        age = in_words(now - (place.started_at or place.at))
        return f"has run there for {age}, attempt {place.attempts}"
    if place.state == "held" and place.error is not None and place.letter is None:
        return f"is held there until the saga {place.error} has moved"
    if place.state == "held":
        return f"is held there{error}"
    if ahead is not None:
        return f"is there, behind {ahead.type} ({ahead.id}) of the same key"
    if place.attempts:
        return (
            f"failed there {_times(place.attempts)} and is tried again "
            f"{_when(place.due_at, now)}{error}"
        )
    return "is there and waits for its turn"


def _answer_here(files: Files, participant: str, message_id: str, now: float) -> Whereabouts | None:
    with files.read(participant) as connection:
        places = messages.answers_in_inbox(connection, message_id)
        ahead = messages.ahead_of(connection, places[0]) if places else None
    if not places:
        return None
    return Whereabouts(f"is answered; the answer {in_inbox(places[0], ahead, now)}")


def _on_the_way(
    files: Files, participant: str, to: str | None, message_id: str, now: float
) -> Whereabouts:
    if to is None:
        return Whereabouts("is on its way")
    with files.read(participant) as connection:
        row = messages.in_outbox(connection, in_stream(to), message_id)
    if row is None:
        return Whereabouts("is on its way")
    seq, at = row
    with files.read(to) as connection:
        sender = senders(connection).get((participant, "in"))
    if sender is not None and sender.accepted >= seq:
        return Whereabouts("was handled there, and the answer is on its way")
    return Whereabouts(f"is in the outbox of {participant} for {in_words(now - at)}: not yet there")


def _owner(files: Files, type_name: str) -> str | None:
    if not files.has_control():
        return None
    with files.control() as connection:
        entry = control.catalog(connection).get(type_name)
    return None if entry is None else entry.participant


def _until(due_at: float | None, now: float) -> str:
    return "" if due_at is None else f" and wakes {_when(due_at, now)}"


def _when(at: float, now: float) -> str:
    if at <= now:
        return f"{in_words(now - at)} ago" if now - at > 1 else "now"
    return f"in {in_words(at - now)}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
