"""Dead letters: what died, where, why, how often it was tried, and what may be done about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from outboxd.clock import utc
from outboxd.errors import ConfigError, NotFound
from outboxd.message import Undecodable, decode_envelope
from outboxd.store.connection import Connection
from outboxd.store.reading import letters as reading
from outboxd.store.reading.filters import Term, where

from . import filtering, nearest
from .files import Files

_NAME = re.compile(r"(?:(?P<participant>[^/\s]+)/)?(?:d-)?(?P<n>\d{1,18})")
_CALL = re.compile(
    r"(?P<saga>[^/]+/(?!every/)[^/]+/.+?)(?:~[0-9a-f]{11})?#(?P<pos>\d+)(?:~undo)?", re.DOTALL
)
"""What a schedule fires has an id of its own kind, and no saga."""

_AT_ONCE = 500
"""Numbers in one question to the database."""

TREND_S = 24 * 3600.0
SPANS = 12

_OPERATIONS = {"dead.replay": "replayed", "dead.discard": "discarded"}


class LetterRow(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter. ``name`` is what people call it: d-77, or payments/d-77 where two have one.

    ``failed`` counts its deaths, ``attempts`` the tries of the last one; ``saga`` is the one that
    waits for its answer.
    """

    name: str
    participant: str
    n: int
    message_id: str
    type: str
    key: str | None
    sender: str
    handler: str
    state: str
    attempts: int
    failed: int
    replays: int
    first_at: datetime
    at: datetime
    error_type: str
    error: str
    reason: str | None
    saga: str | None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One failed try; ``outcome`` says what followed it."""

    n: int
    at: datetime
    took_s: float
    outcome: str
    error: str
    traceback: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator did, who and why."""

    id: str
    at: datetime
    did: str
    who: str
    reason: str
    result: str


class LetterDetail(msgspec.Struct, frozen=True, kw_only=True):
    """``envelope``: its attributes, ``data`` its payload; where it is no envelope, ``text`` has it.

    ``moves``: the commands that would settle it.
    """

    letter: LetterRow
    envelope: dict[str, Any]
    data: Any
    text: str | None
    traceback: str
    attempts: tuple[Attempt, ...]
    history: tuple[Operation, ...]
    moves: tuple[str, ...]


class LetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """The letters that match, the latest first; ``live``: all that wait for a person."""

    rows: tuple[LetterRow, ...]
    live: int


class LetterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Letters with one cause: handler and type of error; ``error`` is one of their texts;
    ``trend``: how many of them died in each twelfth of the last 24 hours, the oldest first.
    """

    participant: str
    handler: str
    error_type: str
    error: str
    letters: int
    first_at: datetime
    last_at: datetime
    failed: int
    replays: int
    trend: tuple[int, ...] = ()


def asked(files: Files, terms: Sequence[Term]) -> list[str]:
    """The participants that the terms let pass."""
    return [n for n in files.participants() if filtering.allows(terms, "participant", n)]


def page(files: Files, terms: Sequence[Term], limit: int) -> LetterPage:
    """Letters that match; without a word about ``state`` those that wait for a person."""
    only_live = not any(term.field == "state" for term in terms)
    found: list[tuple[str, reading.Listed]] = []
    live = 0
    for name in asked(files, terms):
        with files.read(name) as connection:
            condition = where(filtering.without(terms, "participant"), reading.LETTER_COLUMNS)
            rows = reading.letters(connection, condition, limit, only_live=only_live)
            found += [(name, row) for row in rows]
            live += reading.live(connection)
    found.sort(key=lambda pair: pair[1].at, reverse=True)
    latest = _latest_numbers(files)
    return LetterPage(rows=tuple(_row(n, row, latest) for n, row in found[:limit]), live=live)


def groups(files: Files, terms: Sequence[Term], now: float) -> list[LetterGroup]:
    """Letters that wait for a person, by cause; the largest group first."""
    found: list[LetterGroup] = []
    since = now - TREND_S
    for name in asked(files, terms):
        with files.read(name) as connection:
            condition = where(filtering.without(terms, "participant"), reading.LETTER_COLUMNS)
            trends: dict[tuple[str, str], list[int]] = {}
            for handler, error_type, span, n in reading.deaths(
                connection, condition, since, TREND_S / SPANS
            ):
                trend = trends.setdefault((handler, error_type), [0] * SPANS)
                trend[min(span, SPANS - 1)] += n
            found += [
                _group(name, row, trends.get((row.handler, row.error_type), [0] * SPANS))
                for row in reading.groups(connection, condition)
            ]
    return sorted(found, key=lambda group: -group.letters)


def states(files: Files, letters: Sequence[tuple[str, int]]) -> dict[str, int]:
    """State to how many of these letters, as (participant, number), are in it."""
    numbers: dict[str, list[int]] = {}
    for participant, n in letters:
        numbers.setdefault(participant, []).append(n)
    found: dict[str, int] = {}
    for participant, chosen in numbers.items():
        with files.read(participant) as connection:
            for first in range(0, len(chosen), _AT_ONCE):
                for state, count in reading.states(
                    connection, chosen[first : first + _AT_ONCE]
                ).items():
                    found[state] = found.get(state, 0) + count
    return found


def is_name(text: str) -> bool:
    """Whether ``text`` looks like the name of a letter."""
    return _NAME.fullmatch(text) is not None


def find(files: Files, name: str) -> tuple[str, int]:
    """(participant, number) of ``d-77``, ``77`` or ``payments/d-77``.

    Raises NotFound, or ConfigError if several participants have one of that number.
    """
    said = _NAME.fullmatch(name)
    if said is None:
        raise ConfigError(f"{name!r} is no dead letter", hint="they are called d-7 or payments/d-7")
    n = int(said["n"])
    owners = [said["participant"]] if said["participant"] else files.participants()
    found = [owner for owner in owners if _exists(files, owner, n)]
    if not found:
        hint = nearest.letter_hint(files, said["participant"], n)
        raise NotFound(f"there is no dead letter {name}", hint=hint)
    if len(found) > 1:
        names = ", ".join(f"{owner}/d-{n}" for owner in found)
        raise ConfigError(f"several participants have a letter d-{n}", hint=f"say which: {names}")
    return found[0], n


def detail(files: Files, name: str) -> LetterDetail:
    """All about one letter; raises NotFound."""
    participant, n = find(files, name)
    latest = _latest_numbers(files)
    with files.read(participant) as connection:
        listed = reading.letter(connection, n)
        assert listed is not None
        traceback, body = reading.letter_content(connection, n)
        attempts = [_attempt(tried) for tried in reading.attempts(connection, listed.id)]
        history = operations(connection, f"d-{n}")
    row = _row(participant, listed, latest)
    envelope, data, text = opened(body)
    return LetterDetail(
        letter=row,
        envelope=envelope,
        data=data,
        text=text,
        traceback=traceback,
        attempts=tuple(attempts),
        history=tuple(history),
        moves=moves(row),
    )


def moves(row: LetterRow) -> tuple[str, ...]:
    """The commands that would settle a letter."""
    if row.state != "dead":
        return ()
    return (f"outboxd dead replay {row.name}", f"outboxd dead discard {row.name}")


def operations(connection: Connection, target: str) -> list[Operation]:
    """What operators did to a letter or a saga."""
    return [
        Operation(
            id=row.id,
            at=utc(row.at),
            did=_OPERATIONS.get(row.kind, row.kind),
            who=row.who,
            reason=row.reason,
            result=row.result,
        )
        for row in reading.applied_to(connection, target)
    ]


def saga_of(message_id: str) -> str | None:
    """The saga whose call or undo has this id."""
    found = _CALL.fullmatch(message_id)
    return None if found is None else found["saga"]


def row_of(files: Files, participant: str, listed: reading.Listed) -> LetterRow:
    """A letter as people see it."""
    return _row(participant, listed, _latest_numbers(files))


def _latest_numbers(files: Files) -> dict[str, int]:
    """The highest number that each participant has given to a letter."""
    found = {}
    for name in files.participants():
        with files.read(name) as connection:
            found[name] = reading.last_number(connection)
    return found


def _row(participant: str, row: reading.Listed, latest: dict[str, int]) -> LetterRow:
    is_ambiguous = sum(1 for last in latest.values() if last >= row.n) > 1
    return LetterRow(
        name=f"{participant}/d-{row.n}" if is_ambiguous else f"d-{row.n}",
        participant=participant,
        n=row.n,
        message_id=row.id,
        type=row.type,
        key=row.key,
        sender=row.sender,
        handler=row.handler,
        state=row.state,
        attempts=row.attempts,
        failed=row.failed,
        replays=row.replays,
        first_at=utc(row.first_at),
        at=utc(row.at),
        error_type=row.error_type,
        error=row.error,
        reason=row.reason,
        saga=saga_of(row.id),
    )


def _group(participant: str, row: reading.Group, trend: Sequence[int]) -> LetterGroup:
    return LetterGroup(
        participant=participant,
        handler=row.handler,
        error_type=row.error_type,
        error=row.error,
        letters=row.letters,
        first_at=utc(row.first_at),
        last_at=utc(row.last_at),
        failed=row.failed,
        replays=row.replays,
        trend=tuple(trend),
    )


def _attempt(tried: reading.Tried) -> Attempt:
    return Attempt(
        n=tried.n,
        at=utc(tried.at),
        took_s=tried.took_s,
        outcome=tried.outcome,
        error=tried.error,
        traceback=tried.traceback,
    )


def _exists(files: Files, participant: str, n: int) -> bool:
    if not files.has(participant):
        return False
    with files.read(participant) as connection:
        return reading.letter(connection, n) is not None


def opened(body: bytes) -> tuple[dict[str, Any], Any, str | None]:
    """(attributes, payload, None), or ({}, None, text) of what is no envelope."""
    try:
        envelope = decode_envelope(body)
        data = msgspec.json.decode(envelope.data)
        attributes = msgspec.json.decode(msgspec.json.encode(envelope))
    except (Undecodable, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}, None, body.decode(errors="replace")
    attributes.pop("data", None)
    return attributes, data, None
