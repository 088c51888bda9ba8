"""The list of sagas, trouble first; ``retrying``, ``overdue`` and ``waiting`` are states too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import msgspec

from outboxd.clock import utc
from outboxd.errors import ConfigError, NotFound
from outboxd.message import decode_envelope
from outboxd.store.connection import Connection
from outboxd.store.reading import amounts, messages
from outboxd.store.reading import sagas as reading
from outboxd.store.reading.filters import Condition, Term, where
from outboxd.store.reading.messages import Place
from outboxd.store.reading.sagas import Instance, OpenCall

from . import filtering, nearest
from .files import Files
from .letters import asked, saga_of

ORDER = ("stuck", "compensating", "retrying", "overdue", "running", "waiting")
"""How the list is sorted; the ended ones follow, the latest first."""

_WORDS = {"done": ("completed",), "ended": amounts.ENDED, "open": ORDER}

_REFINED = ("retrying", "overdue", "running", "waiting")
"""What a person sees of the stored state ``running``."""

_LETTER = re.compile(r"(?P<name>[^/\s]+/d-\d+): (?P<error>.+)")

_LOOK_AHEAD = 5
"""A page filtered by a refined state is cut from so many times its rows."""


class SagaRow(msgspec.Struct, frozen=True, kw_only=True):
    """One saga. ``state``: stuck, compensating, retrying, overdue, running, waiting, completed,
    compensated or cancelled; ``step``: what it is at; ``tries``: failed or running ones of that
    step; ``next_at``: when something happens by itself; ``error``: the last one, on one line.
    """

    id: str
    participant: str
    type: str
    key: str
    state: str
    step: str | None
    tries: int
    next_at: datetime | None
    started_at: datetime
    moved_at: datetime
    ended_at: datetime | None
    error: str | None


class SagaPage(msgspec.Struct, frozen=True, kw_only=True):
    """``matching`` of all ``total`` sagas match; ``rows`` are the first of them."""

    rows: tuple[SagaRow, ...]
    matching: int
    total: int


def page(files: Files, terms: Sequence[Term], limit: int, now: float) -> SagaPage:
    """The sagas that match, trouble first."""
    terms = [_in_full(term) for term in terms]
    search = _Search.of(terms, limit, now)
    retried = _retried(files, search.limit)
    rows: list[SagaRow] = []
    matching = total = 0
    for name in asked(files, terms):
        with files.read(name) as connection:
            found = search.candidates(connection, retried.get(name, []))
            calls = _by_saga(reading.calls(connection, list(found)))
            ended = files.ended(name, connection, now).total
            here = sum(amounts.open_sagas(connection).values()) + ended
            matching += search.matching(connection, len(found), here)
            total += here
        places = _places(files, calls)
        rows += [_row(name, saga, calls.get(saga.id, []), places, now) for saga in found.values()]
    kept = [row for row in rows if filtering.allows(terms, "state", row.state)]
    kept.sort(key=_rank)
    if search.is_refined:
        matching = len(kept)
    return SagaPage(rows=tuple(kept[:limit]), matching=matching, total=total)


def find(files: Files, text: str) -> str:
    """The full id of a saga, from that or from its key alone.

    Raises NotFound, or ConfigError if several sagas have that key.
    """
    found: list[str] = []
    for name in files.participants():
        with files.read(name) as connection:
            names = reading.saga_names(connection, name)
            ids = [text, *(f"{name}/{saga}/{text}" for saga in names)]
            found += reading.existing(connection, ids)
    if text in found:
        return text
    if not found:
        hint = nearest.saga_hint(files, text, "outboxd saga list shows them")
        raise NotFound(f"there is no saga {text}", hint=hint)
    if len(found) > 1:
        raise ConfigError(
            f"several sagas have the key {text}", hint=f"say which: {', '.join(found)}"
        )
    return found[0]


def started_by(files: Files, participant: str, key: str, message_id: str) -> str | None:
    """The saga that a message started, or else the latest one with its key."""
    latest: str | None = None
    if not files.has(participant):
        return None
    with files.read(participant) as connection:
        for name in reading.saga_names(connection, participant):
            for saga_id, start in reading.rounds(connection, participant, name, key):
                latest = saga_id
                if decode_envelope(start).id == message_id:
                    return saga_id
    return latest


def one(files: Files, saga_id: str, now: float) -> tuple[SagaRow, Instance, list[OpenCall]]:
    """A saga as the list shows it, as it is stored, and what it waits for."""
    participant = saga_id.partition("/")[0]
    with files.read(participant) as connection:
        saga = reading.saga(connection, saga_id)
        if saga is None:
            raise NotFound(f"there is no saga {saga_id}")
        calls = _by_saga(reading.calls(connection, [saga_id]))
    places = _places(files, calls)
    waits = calls.get(saga_id, [])
    return _row(participant, saga, waits, places, now), saga, waits


class _Search(msgspec.Struct, frozen=True):
    """A filter as the database can answer it: stored states, and a condition on the rest."""

    wanted: tuple[str, ...]
    condition: Condition
    limit: int
    now: float
    is_refined: bool

    @classmethod
    def of(cls, terms: Sequence[Term], limit: int, now: float) -> _Search:
        wanted = tuple(s for s in (*amounts.OPEN, *amounts.ENDED) if _wants(terms, s))
        rest = filtering.without(filtering.without(terms, "participant"), "state")
        is_refined = any(t.field == "state" and set(t.values) & set(_REFINED) for t in terms)
        wide = limit * _LOOK_AHEAD if is_refined else limit
        return cls(wanted, where(rest, reading.SAGA_COLUMNS), wide, now, is_refined)

    def candidates(self, connection: Connection, retried: list[str]) -> dict[str, Instance]:
        """At most some limits of sagas, which hold the first ``limit`` of the list."""
        found: list[Instance] = []
        for state in ("stuck", "compensating"):
            if state in self.wanted:
                found += reading.open_sagas(connection, state, self.condition, self.limit)
        if "running" in self.wanted:
            urgent = [*retried, *reading.overdue_sagas(connection, self.now, self.limit)]
            found += reading.sagas_by_id(connection, "running", urgent, self.condition)
            found += reading.open_sagas(connection, "running", self.condition, self.limit)
        ended = [state for state in amounts.ENDED if state in self.wanted]
        if ended and len(found) < self.limit:
            left = self.limit - len(found)
            found += reading.ended_sagas(connection, ended, self.condition, left)
        return {saga.id: saga for saga in found}

    def matching(self, connection: Connection, found: int, total: int) -> int:
        """How many match here; ``found`` of them are known, of ``total``."""
        if len(self.wanted) == len(amounts.OPEN) + len(amounts.ENDED) and self.condition[0] == "1":
            return total
        if found < self.limit:
            return found
        return reading.count_sagas(connection, self.wanted, self.condition)


def _wants(terms: Sequence[Term], state: str) -> bool:
    """Whether the terms let a stored state pass; ``running`` stands for what people see of it."""
    seen = _REFINED if state == "running" else (state,)
    return any(filtering.allows(terms, "state", value) for value in seen)


def _retried(files: Files, limit: int) -> dict[str, list[str]]:
    """Participant to its sagas for whom something is tried again, wherever that is."""
    sagas: dict[str, list[str]] = {}
    for name in files.participants():
        with files.read(name) as connection:
            for message_id in messages.retried_messages(connection, limit):
                saga_id = saga_of(message_id)
                if saga_id is not None:
                    sagas.setdefault(saga_id.partition("/")[0], []).append(saga_id)
    return sagas


def _by_saga(calls: list[OpenCall]) -> dict[str, list[OpenCall]]:
    found: dict[str, list[OpenCall]] = {}
    for call in calls:
        found.setdefault(call.saga, []).append(call)
    return found


def _places(files: Files, calls: dict[str, list[OpenCall]]) -> dict[str, Place]:
    """Message id to where it lies in an inbox, of all that these sagas wait for."""
    ids = [call.id for waits in calls.values() for call in waits]
    found: dict[str, Place] = {}
    if ids:
        for name in files.participants():
            with files.read(name) as connection:
                found |= messages.in_inbox(connection, ids)
    return found


def _row(
    participant: str, saga: Instance, waits: list[OpenCall], places: dict[str, Place], now: float
) -> SagaRow:
    call = min(waits, key=lambda wait: _urgency(wait, places, now), default=None)
    place = places.get(call.id) if call is not None else None
    state = saga.state if saga.state != "running" else _refined(call, place, now)
    return SagaRow(
        id=saga.id,
        participant=participant,
        type=saga.name,
        key=saga.key,
        state=state,
        step=saga.step,
        tries=place.attempts if place is not None else 0,
        next_at=_next_at(call, place),
        started_at=utc(saga.started_at),
        moved_at=utc(saga.moved_at),
        ended_at=None if saga.ended_at is None else utc(saga.ended_at),
        error=_error(saga, place),
    )


def _urgency(call: OpenCall, places: dict[str, Place], now: float) -> tuple[int, float]:
    """Of several steps side by side, the one in trouble tells how the saga is, or else the next."""
    state = _refined(call, places.get(call.id), now)
    next_at = _next_at(call, places.get(call.id))
    return ORDER.index(state), float("inf") if next_at is None else next_at.timestamp()


def _refined(call: OpenCall | None, place: Place | None, now: float) -> str:
    if call is None:
        return "running"
    if place is not None and place.state == "waiting" and place.attempts:
        return "retrying"
    if not call.is_timer and call.due_at is not None and call.due_at < now:
        return "overdue"
    if call.is_timer or call.kind == "receive" or (place is not None and place.state != "running"):
        return "waiting"
    return "running"


def _next_at(call: OpenCall | None, place: Place | None) -> datetime | None:
    if place is not None and place.state == "waiting":
        return utc(place.due_at)
    return None if call is None or call.due_at is None else utc(call.due_at)


def _error(saga: Instance, place: Place | None) -> str | None:
    text = saga.detail or saga.reason or (place.error if place is not None else None)
    lines = (text or "").strip().splitlines()
    if not lines:
        return None
    letter = _LETTER.fullmatch(lines[-1])  # what went wrong first: the rest may be cut
    return f"{letter['error']} ({letter['name']})" if letter else lines[-1]


def _rank(row: SagaRow) -> tuple[int, float]:
    if row.ended_at is not None:
        return len(ORDER), -row.ended_at.timestamp()
    return ORDER.index(row.state), row.started_at.timestamp()


def _in_full(term: Term) -> Term:
    """``state:done`` and its like, spelt out; raises ConfigError for a state that there is not."""
    if term.field != "state":
        return term
    known = {*ORDER, *amounts.ENDED}
    values: list[str] = []
    for value in term.values:
        if value not in known and value not in _WORDS:
            raise ConfigError(
                f"there is no state {value!r}", hint=f"states: {', '.join(sorted(known))}"
            )
        values += _WORDS.get(value, (value,))
    return Term("state", tuple(values), term.is_not)
