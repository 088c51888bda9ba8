"""Where a message that a saga waits for is now, in words: inbox, letter, outbox, or on its way."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import msgspec

from outboxd import retry
from outboxd.clock import in_words
from outboxd.message import in_stream
from outboxd.store import control, fence
from outboxd.store.connection import Connection
from outboxd.store.inbox import senders
from outboxd.store.reading import letters, messages
from outboxd.store.reading import sagas as saga_reading
from outboxd.store.reading.messages import Place
from outboxd.store.reading.sagas import OpenCall

from .letters import moves as letter_moves
from .letters import row_of
from .scene import Obstacle, Scene


class Whereabouts(msgspec.Struct, frozen=True):
    """``text``: where it is, and since when; ``next``: what happens by itself, and when.

    ``letter``: its name, if a person must deal with a dead letter; ``moves``: commands that would
    remove what is in its way.
    """

    text: str
    next: str = ""
    letter: str | None = None
    moves: tuple[str, ...] = ()


def of(scene: Scene, participant: str, call: OpenCall) -> Whereabouts:
    """What became of a call, a sleep or an undo of one of ``participant``'s sagas."""
    if call.is_timer:
        text = f"for time to pass: it sleeps{_until(call.due_at, scene.now)}"
        wakes = f"it wakes{'' if call.due_at is None else f' {when(call.due_at, scene.now)}'}"
        return hindered(Whereabouts(text), scene.at(participant), wakes)
    if call.kind == "receive":
        return _expected(scene, participant, call)
    to = call.to_name or _owner(scene, call.name)
    found = (
        _at_receiver(scene, to, call.id)
        or _answer_here(scene, participant, call.id)
        or _done(scene, to, call.id, participant)
        or _on_the_way(scene, participant, to, call.id)
    )
    what = f"for {to or 'an answer'}: {call.name} ({call.id})"
    return msgspec.structs.replace(found, text=f"{what} {found.text}{_limit(scene, call)}")


def _expected(scene: Scene, participant: str, call: OpenCall) -> Whereabouts:
    """A message that a saga waits for, whoever sends it."""
    if call.key is None:
        here = Whereabouts(f"for {call.name}, which is here")
        return hindered(here, scene.at(participant), "it is handled")
    what = f"for {call.name} of {call.key}, which has not come"
    send = f"outboxd send {call.name} @FILE --key {shlex.quote(call.key)}"
    text = f"{what}{_limit(scene, call)}"
    return Whereabouts(text, "it goes on when that comes", moves=(send,))


def _limit(scene: Scene, call: OpenCall) -> str:
    """A call's deadline; an undo's patience."""
    if call.due_at is None:
        return ""
    if scene.is_cut_off and not call.strict:
        return "; its deadline stands still meanwhile"
    verb = " passed " if call.due_at < scene.now else " is "
    return f"; its deadline{verb}{when(call.due_at, scene.now)}"


def deadline(scene: Scene, call: OpenCall, *, is_forward: bool) -> Iterator[str]:
    """What happens if no answer comes."""
    now = scene.now
    if call.id.endswith("~undo"):
        ends_at = call.sent_at + retry.PATIENT_BUDGET_S
        yield f"unless it is answered, {when(ends_at, now)} its saga is stuck, and a person decides"
    if call.is_timer or call.due_at is None or (scene.is_cut_off and not call.strict):
        return
    if call.due_at < now:
        yield (
            "its deadline counts only time in which an answer could have come: what was read from "
            "the stream is handled first"
        )
    elif is_forward and call.kind != "receive":
        yield f"unless it is answered, {when(call.due_at, now)} it is sent again under the same id"
    else:
        yield (
            f"unless it {'comes' if call.kind == 'receive' else 'is answered'}, "
            f"{when(call.due_at, now)} its saga gets TimedOut, and undoes what it did if its code "
            "does not go on"
        )


def _at_receiver(scene: Scene, to: str | None, message_id: str) -> Whereabouts | None:
    if to is None or not scene.files.has(to):
        return None
    with scene.files.read(to) as connection:
        place = messages.in_inbox(connection, [message_id]).get(message_id)
        letter = letters.letter_of(connection, message_id)
    if letter is not None and letter.state == "dead":
        row = row_of(scene.files, to, letter)
        said = f"has been dead letter {row.name} for {in_words(scene.now - letter.at)}"
        return Whereabouts(
            f"{said}: {row.error_type}: {_line(row.error)}",
            f"nothing, until a person replays or discards {row.name}; its deadline stands still",
            letter=row.name,
        )
    return None if place is None else held(scene, to, place)


def _done(scene: Scene, to: str | None, message_id: str, sender: str) -> Whereabouts | None:
    """What the receiver remembers of a call that it has dealt with."""
    if to is None or not scene.files.has(to):
        return None
    with scene.files.read(to) as connection:
        known = fence.get(connection, message_id)
        child = _child(connection, known) or _awaited(connection, message_id)
    if child is not None and child.ended_at is None:
        said = "has started" if known is not None else "waits there for the end of"
        text = f"{said} the saga {child.id}, which is {child.state}"
        return Whereabouts(text, f"its answer, when that ends: outboxd why {child.id}")
    if known is None:
        return None
    done = Whereabouts(f"is {known.state} there, and the answer is on its way")
    return hindered(done, scene.between(to, sender), f"{sender} takes the answer")


def _child(connection: Connection, known: fence.Fence | None) -> saga_reading.Instance | None:
    """The saga that a call has started where it was handled."""
    if known is None or known.state != "started" or known.result is None:
        return None
    return saga_reading.saga(connection, msgspec.json.decode(known.result, type=str))


def held(scene: Scene, to: str, place: Place) -> Whereabouts:
    """What a message does in the inbox of ``to``, and what comes next."""
    with scene.files.read(to) as connection:
        ahead = messages.ahead_of(connection, place)
    text = in_inbox(place, ahead, scene.now)
    if place.state == "running" and not scene.is_running(to):
        text = f"ran there when outboxd stopped, attempt {place.attempts}{_crashed(place)}"
    if place.state == "held":
        return Whereabouts(text, "nothing, until that saga moves" if _is_for_saga(place) else "")
    then = "its answer, when the handler ends; a failure is tried again"
    if ahead is not None and ahead.state == "held" and not _is_for_saga(ahead):
        return _behind_letter(scene, to, text, ahead)
    if ahead is not None:
        then = f"its turn, when the one before it is done, which {in_inbox(ahead, None, scene.now)}"
    elif place.state == "waiting" and place.attempts:
        then = f"attempt {place.attempts + 1} {when(place.due_at, scene.now)}"
    elif place.state == "waiting":
        then = "its first attempt, at once"
    return hindered(Whereabouts(text), scene.at(to), then)


def _behind_letter(scene: Scene, to: str, text: str, ahead: Place) -> Whereabouts:
    """Its handler says hold_key: what comes after a dead letter of its key waits for a person."""
    with scene.files.read(to) as connection:
        letter = letters.letter_of(connection, ahead.id)
    if letter is None:
        return Whereabouts(text, f"its turn, when the one before it is done: {ahead.error}")
    row = row_of(scene.files, to, letter)
    then = f"its turn, when a person replays or discards {row.name}, which holds the key"
    return Whereabouts(text, then, moves=letter_moves(row))


def _is_for_saga(place: Place) -> bool:
    return place.error is not None and place.letter is None


def _awaited(connection: Connection, message_id: str) -> saga_reading.Instance | None:
    """The saga for whose end a message waits where it was handled."""
    saga_id = saga_reading.awaited_by(connection, message_id)
    return None if saga_id is None else saga_reading.saga(connection, saga_id)


def in_inbox(place: Place, ahead: Place | None, now: float) -> str:
    """What a message does in the inbox where it is."""
    error = f": {_line(place.error)}" if place.error else ""
    if place.state == "running":
        age = in_words(now - (place.started_at or place.at))
        return f"has run there for {age}, attempt {place.attempts}"
    if place.state == "held" and _is_for_saga(place):
        return f"is held there until the saga {place.error} has moved"
    if place.state == "held":
        return f"is held there{error}"
    if place.is_suspect:
        return f"is suspect there and tried alone{_crashed(place)}"
    if ahead is not None:
        return f"is there, behind {ahead.type} ({ahead.id}) of the same key"
    if place.attempts:
        tried = "is tried again" if place.due_at > now - 1 else "was due to be tried again"
        return f"failed there {_times(place.attempts)} and {tried} {when(place.due_at, now)}{error}"
    return "is there and waits for its turn"


def _answer_here(scene: Scene, participant: str, message_id: str) -> Whereabouts | None:
    with scene.files.read(participant) as connection:
        places = messages.answers_in_inbox(connection, message_id)
    if not places:
        return None
    found = held(scene, participant, places[0])
    return msgspec.structs.replace(found, text=f"is answered; the answer {found.text}")


def _on_the_way(scene: Scene, participant: str, to: str | None, message_id: str) -> Whereabouts:
    if to is None:
        return hindered(Whereabouts("is on its way"), scene.at(participant))
    with scene.files.read(participant) as connection:
        row = messages.in_outbox(connection, in_stream(to), message_id)
    if row is None:
        gone = Whereabouts("is on its way")
        if not scene.files.has(to):
            gone = Whereabouts(f"was taken by {to}, which has no data here; it has not answered")
        return hindered(gone, scene.between(to, participant) if scene.files.has(to) else None)
    seq, at = row
    if scene.files.has(to):
        with scene.files.read(to) as connection:
            sender = senders(connection).get((participant, "in"))
        if sender is not None and sender.accepted >= seq:
            text = "was handled there, and the answer is on its way"
            return hindered(Whereabouts(text), scene.between(to, participant))
    text = f"is in the outbox of {participant} for {in_words(scene.now - at)}: not yet there"
    return hindered(
        Whereabouts(text), scene.between(participant, to), f"{to} takes it from its stream"
    )


def hindered(found: Whereabouts, obstacle: Obstacle | None, then: str = "") -> Whereabouts:
    """With what comes next: ``then``, unless something is in its way."""
    if obstacle is None:
        return msgspec.structs.replace(found, next=then)
    return msgspec.structs.replace(found, next=obstacle.text, moves=obstacle.moves)


def _owner(scene: Scene, type_name: str) -> str | None:
    if not scene.files.has_control():
        return None
    with scene.files.control() as connection:
        entry = control.catalog(connection).get(type_name)
    return None if entry is None else entry.participant


def _crashed(place: Place) -> str:
    if not place.crashes:
        return ""
    return f"; the process has ended {_times(place.crashes)} before while it ran"


def _until(due_at: float | None, now: float) -> str:
    return "" if due_at is None else f" and wakes {when(due_at, now)}"


def when(at: float, now: float) -> str:
    """``in 3m``, ``now`` or ``3m ago``."""
    if at <= now:
        return f"{in_words(now - at)} ago" if now - at > 1 else "now"
    return f"in {in_words(at - now)}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
