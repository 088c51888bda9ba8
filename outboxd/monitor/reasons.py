"""``why``: what a saga, a letter or any message waits for, and which commands would move it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Literal

import msgspec

from outboxd.clock import in_words
from outboxd.errors import NotFound
from outboxd.message import decode_envelope, events_stream, stream_name
from outboxd.store import control, fence, subscriber
from outboxd.store.connection import Connection
from outboxd.store.control import Request
from outboxd.store.inbox import senders
from outboxd.store.reading import letters as letter_reading
from outboxd.store.reading import messages
from outboxd.store.reading import sagas as saga_reading
from outboxd.store.reading.messages import Sent

from . import letters, nearest, saga, sagas, schedules, whereabouts
from .files import Files
from .scene import Scene


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """``waits_for``: sentences, none for what waits for nothing: for whom, where it is, how long.

    ``next``: what happens by itself, and when, or what keeps it from happening; ``moves``: commands
    that would move it; ``origin``: the schedule that set it going, if one did.
    """

    id: str
    kind: Literal["saga", "letter", "message", "operation", "schedule"]
    state: str
    waits_for: tuple[str, ...]
    moves: tuple[str, ...]
    next: tuple[str, ...] = ()
    origin: str | None = None


class _Found(msgspec.Struct, frozen=True):
    """What one place knows of a message."""

    state: str
    waits: str | None = None
    next: str = ""
    moves: tuple[str, ...] = ()


_LOOKED_AT = 1000
"""Pending requests that are searched for a key."""

_ORDER = ("dead", "refused", "retrying", "running", "waiting", "held", "delayed", "sent", "queued")
"""Of several places the one that says most: trouble first."""


def why(files: Files, name: str, now: float) -> Why:
    """Explains a saga (by id or key), a letter (d-7), a message or an operation (by id).

    Raises NotFound.
    """
    with suppress(NotFound):
        return _saga(files, sagas.find(files, name), now)
    if letters.is_name(name):
        if not name.isdigit():
            return _letter(files, name, now)
        with suppress(NotFound):  # a bare number may be the key of what is under way, too
            return _letter(files, name, now)
    scene = Scene.of(files, now)
    return _operation(scene, name) or _schedule(scene, name) or _message(scene, name)


def _saga(files: Files, saga_id: str, now: float) -> Why:
    detail = saga.detail(files, saga_id, now)
    with files.read(detail.saga.participant) as connection:
        start = saga_reading.start(connection, saga_id)
    return Why(
        id=saga_id,
        kind="saga",
        state=detail.saga.state,
        waits_for=detail.waits_for,
        moves=detail.moves,
        next=detail.next,
        origin=None if start is None else _origin(files, decode_envelope(start).id, now),
    )


def _origin(files: Files, message_id: str, now: float) -> str | None:
    found = schedules.firing(files, message_id, now)
    return None if found is None or found.n is None else found.text


def _schedule(scene: Scene, name: str) -> Why | None:
    """A schedule by its name, ticker/every/sweep or ticker.sweep."""
    participant, dot, short = name.partition(".")
    full = f"{participant}/every/{short}" if dot else name
    found = schedules.firing(scene.files, full, scene.now)
    if found is None or found.n is not None:
        return None
    plan = found.schedule
    then, moves = [], []
    obstacle = scene.at(plan.participant) if plan.next_at is not None else None
    if obstacle is not None:
        then, moves = [obstacle.text], list(obstacle.moves)
    elif plan.next_at is not None:
        then = [f"it fires {schedules.when(plan, scene.now)}"]
    if plan.letter is not None:
        then.insert(0, f"its last firing that failed is {plan.letter}: {plan.error}")
        moves.insert(0, f"outboxd why {plan.letter}")
    elif plan.error is not None:
        then.insert(0, f"a firing of it is tried again: {plan.error}")
    return Why(
        id=f"{plan.participant}/every/{plan.name}",
        kind="schedule",
        state=plan.state,
        waits_for=(f"for its time: {plan.spec}, {schedules.when(plan, scene.now)}",),
        moves=tuple(moves),
        next=tuple(then),
    )


def _letter(files: Files, name: str, now: float) -> Why:
    row = letters.detail(files, name).letter
    waits, then = [], ""
    if row.state == "dead":
        age = in_words(now - row.at.timestamp())
        waits.append(f"for a person, for {age}: {row.error_type}: {row.error}")
        then = "nothing by itself"
        if row.saga is not None:
            waits.append(f"the saga {row.saga} waits for it")
            then = "nothing by itself; a replay continues its saga, a discard unwinds it"
    elif row.state == "replaying":
        waits.append(f"for {row.participant} to handle it again")
        obstacle = Scene.of(files, now).at(row.participant)
        then = "it is handled, or dead again" if obstacle is None else obstacle.text
    elif row.reason:
        then = f"nothing: it was {row.state}: {row.reason}"
    return Why(
        id=row.name,
        kind="letter",
        state=row.state,
        waits_for=tuple(waits),
        moves=letters.moves(row),
        next=(then,) if then else (),
        origin=_origin(files, row.message_id, now),
    )


def _operation(scene: Scene, name: str) -> Why | None:
    """What somebody asked for, while it is not applied; a message that was sent and refused."""
    request = _request(scene.files, name)
    if request is None or (request.kind == "send" and request.state == "applied"):
        return None
    waits: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    then = f"nothing: it was {request.state}: {request.result}"
    if request.state == "pending":
        age = in_words(scene.now - request.at)
        waits = (f"for outboxd to apply it, for {age}: {request.kind} {request.target}",)
        obstacle = scene.at(request.participant)
        then = f"{request.participant} takes it at once" if obstacle is None else obstacle.text
        moves = () if obstacle is None else obstacle.moves
    return Why(
        id=name,
        kind="message" if request.kind == "send" else "operation",
        state=request.state,
        waits_for=waits,
        moves=moves,
        next=(then,),
    )


def _request(files: Files, name: str) -> Request | None:
    if not files.has_control():
        return None
    with files.control() as connection:
        found = control.get(connection, name) or control.get(connection, f"send-{name}")
        return found or _start_of(control.pending(connection, _LOOKED_AT), name)


def _start_of(pending: list[Request], key: str) -> Request | None:
    """A message that was sent with this key and is not applied yet."""
    sent = (request for request in pending if request.kind == "send")
    return next((r for r in sent if msgspec.json.decode(r.args).get("key") == key), None)


def _message(scene: Scene, message_id: str) -> Why:
    found = list(_places(scene, message_id)) or list(_past(scene, message_id))
    if not found:
        listed = "a handled message leaves no row; see outboxd saga list and outboxd dead list"
        raise NotFound(
            f"nothing here waits under the name {message_id!r}",
            hint=nearest.saga_hint(scene.files, message_id, listed),
        )
    first = min(found, key=lambda place: _ORDER.index(place.state) if place.state in _ORDER else 99)
    return Why(
        id=message_id,
        kind="message",
        state=first.state,
        waits_for=tuple(place.waits for place in found if place.waits is not None),
        moves=tuple(dict.fromkeys(move for place in found for move in place.moves)),
        next=tuple(dict.fromkeys(place.next for place in found if place.next)),
        origin=_origin(scene.files, message_id, scene.now),
    )


def _places(scene: Scene, message_id: str) -> Iterator[_Found]:
    """Each place where a message lies and waits."""
    for name in scene.files.participants():
        with scene.files.read(name) as connection:
            sent = messages.anywhere_in_outbox(connection, message_id)
            place = messages.in_inbox(connection, [message_id]).get(message_id)
            listed = letter_reading.letter_of(connection, message_id)
            readers = subscriber.names(connection)
        for row in sent:
            yield from _sent(scene, name, row, readers)
        if place is not None and place.letter is None:
            held = whereabouts.held(scene, name, place)
            state = "retrying" if place.state == "waiting" and place.attempts else place.state
            yield _Found(state, f"for {name}: it {held.text}", held.next, held.moves)
        if listed is not None and listed.state in ("dead", "replaying"):
            yield _dead(scene, name, listed)


def _dead(scene: Scene, name: str, listed: letter_reading.Listed) -> _Found:
    row = letters.row_of(scene.files, name, listed)
    if listed.state == "replaying":
        obstacle = scene.at(name)
        then = "it is handled, or dead again" if obstacle is None else obstacle.text
        return _Found("replaying", f"for {name} to handle it again, as {row.name}", then)
    return _Found(
        "dead",
        f"for a person: it is dead letter {row.name} of {name}: {row.error}",
        f"nothing, until a person replays or discards {row.name}",
        letters.moves(row),
    )


def _sent(scene: Scene, name: str, row: Sent, readers: list[str]) -> Iterator[_Found]:
    if row.seq is None:
        obstacle = scene.at(name)
        yield _Found(
            "delayed",
            f"for its time: {name} sends it to {row.stream} {whereabouts.when(row.at, scene.now)}",
            "it sets out at its time" if obstacle is None else obstacle.text,
            () if obstacle is None else obstacle.moves,
        )
        return
    age = in_words(scene.now - row.at)
    is_event = row.stream == events_stream(name)
    kind = "events" if is_event else "in"
    for to in readers if is_event else [stream_name(row.stream)[0]]:
        if _holds(scene.files, to, name, kind, row.seq):
            continue
        obstacle = scene.between(name, to)
        whom = f"{row.stream}: in the outbox of {name} for {age}"
        yield _Found(
            "sent",
            f"for {whom}, not yet taken by {to}",
            f"{to} takes it from its stream" if obstacle is None else obstacle.text,
            () if obstacle is None else obstacle.moves,
        )


def _holds(files: Files, receiver: str, sender: str, kind: str, seq: int) -> bool:
    """Whether a receiver in this data directory has a message already, and says so soon."""
    if not files.has(receiver):
        return False
    with files.read(receiver) as connection:
        row = senders(connection).get((sender, kind))
    return row is not None and row.accepted >= seq


def _past(scene: Scene, message_id: str) -> Iterable[_Found]:
    """What is known of a message that waits nowhere any more."""
    for name in scene.files.participants():
        with scene.files.read(name) as connection:
            yield from _done(connection, name, message_id, scene.now)
    fired = schedules.firing(scene.files, message_id, scene.now)
    if fired is not None and fired.n is not None and fired.n <= fired.schedule.fired:
        yield _Found("done", None, "nothing: it fired, and what it asked for is done or under way")
    request = _request(scene.files, message_id)
    started = None
    if request is not None and request.applied_at is not None:
        key = msgspec.json.decode(request.args).get("key") or ""
        started = sagas.started_by(scene.files, request.participant, key, message_id)
        age = in_words(scene.now - request.applied_at)
        yield _Found("done", None, f"nothing: {request.participant} took it {age} ago")
    owner = started or letters.saga_of(message_id)
    if owner is not None and scene.files.has(owner.partition("/")[0]):
        detail = saga.detail(scene.files, owner, scene.now)
        said = "it started" if started else "it belongs to"
        if detail.saga.ended_at is None:
            text = f"for the saga {owner}, which {said}: it is {detail.saga.state}"
            yield _Found("done", text, "", (f"outboxd why {owner}",))
        else:
            yield _Found("done", None, f"nothing: the saga {owner}, which {said}, has ended")


def _done(connection: Connection, name: str, message_id: str, now: float) -> Iterable[_Found]:
    known = fence.get(connection, message_id)
    if known is not None:
        yield _Found(known.state, f"for nothing at {name}: the call is {known.state} there")
    listed = letter_reading.letter_of(connection, message_id)
    if listed is not None:
        reason = f": {listed.reason}" if listed.reason else ""
        text = f"nothing: as dead letter d-{listed.n} of {name} it was {listed.state}{reason}"
        yield _Found(listed.state, None, text)
