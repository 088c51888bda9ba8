"""Conservation and invariants, proved from the databases, or the ids that break them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from outboxd.errors import NotFound
from outboxd.participant import InvariantSpec, Participant
from outboxd.store.connection import Connection
from outboxd.store.reading import amounts, counting
from outboxd.store.reading.amounts import Stream
from outboxd.store.reading.counting import Account
from outboxd.tx import Db

from .files import Files

_STREAM = re.compile(r"outboxd:\{(?P<name>[^}]+)\}:(?P<kind>in|events)")

_LISTED = 10
"""Ids that a violation names; their number is in its text."""

_SENTENCES = 100
"""Sentences taken from one invariant."""


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that does not hold. ``rule``: received, sent, epoch or waiting; ``ids``: what breaks
    it, as far as that can be known.
    """

    rule: Literal["received", "sent", "epoch", "waiting"]
    participant: str
    text: str
    ids: tuple[str, ...] = ()


class InvariantResult(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: holds, violated, skipped (something is under way), or failed (its code raised)."""

    participant: str
    text: str
    state: Literal["holds", "violated", "skipped", "failed"]
    sentences: tuple[str, ...] = ()


class Hosted(Protocol):
    """What is needed of a Registry."""

    @property
    def participants(self) -> Mapping[str, Participant]: ...


class _Sent(msgspec.Struct, frozen=True):
    """A sender's side, from one snapshot."""

    epoch: int
    streams: tuple[Stream, ...]
    subscribers: dict[str, int]


def audit(files: Files) -> list[Violation]:
    """Every violation of conservation; on live data as well.

    The senders are read before the receivers: what a receiver accepts in between only shrinks
    what must still be in an outbox. What each sender has given out is read once more at the end.
    """
    names = files.participants()
    sent = {name: _sent(files, name) for name in names}
    found: list[Violation] = []
    accounts: dict[str, list[Account]] = {}
    for name in names:
        with files.read(name) as connection:
            accounts[name] = counting.accounts(connection)
            found += _received(connection, name, accounts[name])
            found += _silent(connection, name)
    for name in names:
        with files.read(name) as connection:
            last = {stream.stream: stream.last for stream in amounts.streams(connection)}
        for stream in sent[name].streams:
            found += _conserved(files, name, sent[name], stream, accounts, last)
    return found


def check_invariants(data: Path, hosted: Hosted) -> list[InvariantResult]:
    """Runs every invariant of the hosted participants, read only, in one snapshot per database.

    Invariants that hold only when idle are skipped unless nothing is under way anywhere.
    """
    files = Files(data)
    try:
        with ExitStack() as stack:
            names = files.participants()
            connections = {name: stack.enter_context(files.read(name)) for name in names}
            busy = _under_way(connections)
            return [
                _checked(participant, spec, connections, busy)
                for participant in hosted.participants.values()
                for spec in participant.invariants
            ]
    finally:
        files.close()


# What a receiver holds.


def _received(
    connection: Connection, name: str, accounts: Iterable[Account]
) -> Iterable[Violation]:
    for account in accounts:
        if account.surplus == 0:
            continue
        ids = counting.counted_twice(connection, account.sender, account.kind, _LISTED)
        accepted = max(0, account.accepted - account.since)
        what = "lost" if account.surplus < 0 else "counted twice"
        yield Violation(
            rule="received",
            participant=name,
            text=(
                f"{name} accepted {accepted} of {_named(account)} and accounts for "
                f"{accepted + account.surplus} (done {account.done}, inbox {account.inbox}, "
                f"letters {account.letters}): {abs(account.surplus)} {what}"
            ),
            ids=tuple(ids),
        )


def _named(account: Account) -> str:
    if account.kind == "local":
        return "its own timers and of senders without numbers"
    return f"{account.sender} ({'events' if account.kind == 'events' else 'commands and replies'})"


def _silent(connection: Connection, name: str) -> Iterable[Violation]:
    ids = counting.silent_sagas(connection, _LISTED)
    if ids:
        text = f"{name}: open sagas that wait for nothing: {', '.join(ids)}"
        yield Violation(rule="waiting", participant=name, text=text, ids=tuple(ids))


# What a sender has sent.


def _sent(files: Files, name: str) -> _Sent:
    with files.read(name) as connection:
        return _Sent(
            counting.epoch(connection),
            tuple(amounts.streams(connection)),
            counting.subscribers(connection),
        )


def _conserved(
    files: Files,
    name: str,
    sent: _Sent,
    stream: Stream,
    accounts: Mapping[str, list[Account]],
    last: Mapping[str, int],
) -> Iterable[Violation]:
    """Every number above what the slowest receiver has accepted is in the outbox."""
    floors: list[int] = []
    for receiver, since in _receivers(stream.stream, sent.subscribers):
        if receiver not in accounts:
            floors.append(_settled(stream))  # another node's: only the rows here can be checked
            continue
        kind = "events" if stream.stream.endswith(":events") else "in"
        account = next(
            (a for a in accounts[receiver] if (a.sender, a.kind) == (name, kind)), None
        )
        if account is None or account.accepted < 0:
            floors.append(since if since >= 0 and account is None else _settled(stream))
        elif account.epoch != sent.epoch:
            yield _other_epoch(name, receiver, account, sent)
            floors.append(_settled(stream))
        else:
            floors.append(account.accepted)
            if account.accepted > last.get(stream.stream, 0):
                yield _too_much(name, receiver, account, last.get(stream.stream, 0))
    if floors:
        yield from _gaps(files, name, stream, min(floors))


def _receivers(stream: str, subscribers: Mapping[str, int]) -> list[tuple[str, int]]:
    """(receiver, number after which it begins) of a stream."""
    found = _STREAM.fullmatch(stream)
    if found is None:
        return []
    return [(found["name"], 0)] if found["kind"] == "in" else list(subscribers.items())


def _settled(stream: Stream) -> int:
    """The number up to which the sender has let go."""
    return stream.last if stream.first_row is None else stream.first_row - 1


def _gaps(files: Files, name: str, stream: Stream, floor: int) -> Iterable[Violation]:
    with files.read(name) as connection:
        # Rows that were settled since the first snapshot are held by every receiver.
        floor = max(floor, _settled_since(connection, stream))
        numbers = counting.missing(connection, stream.stream, floor, stream.last, _LISTED)
    if numbers:
        ids = tuple(f"{stream.stream} {number}" for number in numbers)
        text = (
            f"{name} has sent {stream.last} on {stream.stream}, of which {floor} are accepted, and "
            f"its outbox lacks number {', '.join(map(str, numbers))}"
        )
        yield Violation(rule="sent", participant=name, text=text, ids=ids)
