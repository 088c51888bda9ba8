"""Conservation and invariants, proved from the databases, or the ids that break them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import islice
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
    holes: dict[str, list[int]]
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
            found += _conserved(name, sent[name], stream, accounts, last.get(stream.stream, 0))
    return found


def check_invariants(data: Path, hosted: Hosted) -> list[str]:
    """A sentence for each violation of a hosted participant's invariants; see ``invariants``."""
    return [
        f"{result.participant}: {result.text}: {sentence}"
        for result in invariants(data, hosted)
        if result.state in ("violated", "failed")
        for sentence in result.sentences
    ]


def invariants(data: Path, hosted: Hosted) -> list[InvariantResult]:
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
        streams = tuple(amounts.streams(connection))
        holes = {
            stream.stream: counting.missing(
                connection, stream.stream, _let_go(stream), stream.last, _LISTED
            )
            for stream in streams
        }
        epoch, subscribers = counting.epoch(connection), counting.subscribers(connection)
    return _Sent(epoch, streams, holes, subscribers)


def _conserved(
    name: str,
    sent: _Sent,
    stream: Stream,
    accounts: Mapping[str, list[Account]],
    last: int,
) -> Iterable[Violation]:
    """Every number above what the slowest receiver has accepted is in the outbox."""
    kind = "events" if stream.stream.endswith(":events") else "in"
    floors: list[int] = []
    for receiver, since in _receivers(stream.stream, sent.subscribers):
        known = [a for a in accounts.get(receiver, []) if (a.sender, a.kind) == (name, kind)]
        if receiver not in accounts or since < 0:
            floors.append(_let_go(stream))  # another node's, or from what was still there
        elif not known:
            floors.append(since)
        elif known[0].epoch != sent.epoch:
            yield _other_epoch(name, receiver, known[0], sent)
        else:
            floors.append(known[0].accepted)
            if known[0].accepted > last:
                yield _too_much(name, receiver, known[0], last)
    missing = _missing(stream, sent.holes[stream.stream], min(floors, default=stream.last))
    if missing:
        yield _lacking(name, stream, min(floors), missing)


def _receivers(stream: str, subscribers: Mapping[str, int]) -> list[tuple[str, int]]:
    """(receiver, number after which it begins) of a stream."""
    found = _STREAM.fullmatch(stream)
    if found is None:
        return []
    return [(found["name"], 0)] if found["kind"] == "in" else list(subscribers.items())


def _let_go(stream: Stream) -> int:
    """The number up to which the sender has deleted what it sent."""
    return stream.last if stream.first_row is None else stream.first_row - 1


def _missing(stream: Stream, holes: list[int], floor: int) -> list[int]:
    deleted = range(floor + 1, min(_let_go(stream), floor + _LISTED) + 1)
    return [*deleted, *(number for number in holes if number > floor)][:_LISTED]


def _lacking(name: str, stream: Stream, floor: int, missing: list[int]) -> Violation:
    numbers = ", ".join(map(str, missing))
    return Violation(
        rule="sent",
        participant=name,
        text=(
            f"{name} has sent {stream.last} on {stream.stream}, {floor} of them are accepted, and "
            f"its outbox lacks number {numbers}"
        ),
        ids=tuple(f"{stream.stream} {number}" for number in missing),
    )


def _other_epoch(name: str, receiver: str, account: Account, sent: _Sent) -> Violation:
    return Violation(
        rule="epoch",
        participant=receiver,
        text=(
            f"{receiver} knows {name} by epoch {account.epoch}, and its store has {sent.epoch}: "
            "one of the two was restored without the other"
        ),
    )


def _too_much(name: str, receiver: str, account: Account, last: int) -> Violation:
    return Violation(
        rule="sent",
        participant=name,
        text=(
            f"{receiver} has accepted number {account.accepted} of {_named(account)}, but {name} "
            f"has given out only {last}: its database is older than what it has sent"
        ),
    )


# Invariants.


def _checked(
    participant: Participant,
    spec: InvariantSpec,
    connections: Mapping[str, Connection],
    busy: str | None,
) -> InvariantResult:
    name = participant.name
    if name not in connections:
        return InvariantResult(
            participant=name, text=spec.text, state="skipped", sentences=("it has no data yet",)
        )
    if spec.when == "idle" and busy is not None:
        return InvariantResult(participant=name, text=spec.text, state="skipped", sentences=(busy,))
    try:
        db = Db(connections[name], lambda other: _other(connections, other))
        found = tuple(str(said) for said in islice(spec.fn(db), _SENTENCES))
    except NotFound as err:  # another node's participant, or one that is not made yet
        return InvariantResult(
            participant=name, text=spec.text, state="skipped", sentences=(err.message,)
        )
    except Exception as err:
        said = f"{_line_of(err)}{type(err).__name__}: {err}"
        return InvariantResult(participant=name, text=spec.text, state="failed", sentences=(said,))
    state: Literal["holds", "violated"] = "violated" if found else "holds"
    return InvariantResult(participant=name, text=spec.text, state=state, sentences=found)


def _other(connections: Mapping[str, Connection], name: str) -> Connection:
    if name not in connections:
        raise NotFound(f"there is no participant {name!r} in this data directory")
    return connections[name]


def _line_of(err: Exception) -> str:
    ours = str(Path(__file__).parent.parent)
    frames = traceback.extract_tb(err.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(f"{ours}/")]
    return f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}: " if theirs else ""


def _under_way(connections: Mapping[str, Connection]) -> str | None:
    """What is under way anywhere, in words; None when every message sent is accepted and done."""
    accepted = {
        (name, account.sender, account.kind): account.accepted
        for name, connection in connections.items()
        for account in counting.accounts(connection)
    }
    for name, connection in connections.items():
        busy = counting.under_way(connection)
        if busy is not None:
            return f"under way: {name} has {busy}"
        subscribers = counting.subscribers(connection)
        for stream in amounts.streams(connection):
            kind = "events" if stream.stream.endswith(":events") else "in"
            for receiver, since in _receivers(stream.stream, subscribers):
                reached = accepted.get((receiver, name, kind), since)
                if receiver in connections and reached != stream.last:
                    return f"under way: {receiver} has not accepted all of {name}"
    return None
