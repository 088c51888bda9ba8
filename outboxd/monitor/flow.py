"""The data's way in numbers: each arrow's counter, what lies on it, since when, and how long.

Counters only grow; whoever looks twice has the rate.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterable
from datetime import datetime

import msgspec

from outboxd.clock import utc
from outboxd.message import stream_name
from outboxd.store import control
from outboxd.store.connection import Connection
from outboxd.store.reading import amounts, flows

from .files import Files

_SAGAS_SAMPLED = 100
"""So many sagas that ended last tell how long calls take."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What one participant puts on one stream. ``to``: a participant, or None for its events;
    ``total`` was ever committed, ``waiting`` of it is not yet held by every receiver.
    """

    sender: str
    to: str | None
    total: int
    waiting: int
    oldest_at: datetime | None


class Handled(msgspec.Struct, frozen=True, kw_only=True):
    """What one participant takes in and has done; ``p50_s``, ``p95_s``: from a saga's call to its
    answer, over the sagas that ended last.
    """

    participant: str
    accepted: int
    done: int
    waiting: int
    retrying: int
    running: int
    held: int
    oldest_at: datetime | None
    letters: int
    letters_oldest_at: datetime | None
    timers: int
    next_timer_at: datetime | None
    p50_s: float | None
    p95_s: float | None
    fault: str | None
    fault_at: datetime | None


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A database and its log of writes, in bytes."""

    name: str
    database: int
    log: int


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A data directory's traffic at one moment. ``ended``: (second, state, sagas) of the last
    minute, only where it was asked for.
    """

    at: datetime
    sent: tuple[Sent, ...]
    handled: tuple[Handled, ...]
    disks: tuple[Disk, ...]
    free_bytes: int


def flow(files: Files, now: float) -> Flow:
    """Every arrow between the participants here."""
    spans = _spans(files)
    sent: list[Sent] = []
    handled: list[Handled] = []
    for name in files.participants():
        with files.read(name) as connection:
            sent += _sent(connection, name)
            handled.append(_handled(connection, name, spans.get(name, [])))
    return Flow(
        at=utc(now),
        sent=tuple(sent),
        handled=tuple(handled),
        disks=tuple(_disk(files, name) for name in (*files.participants(), control.NAME)),
        free_bytes=shutil.disk_usage(files.data).free,
    )


def ended_per_second(files: Files, since: float) -> dict[int, dict[str, int]]:
    """Second to state to the sagas that ended in it."""
    found: dict[int, dict[str, int]] = {}
    for name in files.participants():
        with files.read(name) as connection:
            for second, state, count in flows.ended_per_second(connection, since):
                states = found.setdefault(second, {})
                states[state] = states.get(state, 0) + count
    return found


def _sent(connection: Connection, name: str) -> Iterable[Sent]:
    for stream in amounts.streams(connection):
        owner, kind = stream_name(stream.stream)
        yield Sent(
            sender=name,
            to=owner if kind == "in" else None,
            total=stream.last,
            waiting=stream.rows,
            oldest_at=_moment(amounts.outbox_oldest_at(connection, [stream])),
        )


def _handled(connection: Connection, name: str, spans: list[float]) -> Handled:
    numbers = flows.accepted(connection)
    inbox = amounts.inbox_count(connection)
    letters, letters_at = amounts.open_letters(connection)
    timers, next_timer_at = flows.timers(connection)
    fault = flows.last_fault(connection)
    return Handled(
        participant=name,
        accepted=numbers.accepted,
        done=numbers.done,
        waiting=inbox.waiting,
        retrying=inbox.retrying,
        running=inbox.running,
        held=inbox.held,
        oldest_at=_moment(flows.inbox_oldest_at(connection)),
        letters=letters,
        letters_oldest_at=_moment(letters_at),
        timers=timers,
        next_timer_at=_moment(next_timer_at),
        p50_s=statistics.median(spans) if spans else None,
        p95_s=spans[int(len(spans) * 0.95)] if spans else None,
        fault=None if fault is None else fault.error,
        fault_at=None if fault is None else utc(fault.at),
    )


def _spans(files: Files) -> dict[str, list[float]]:
    """Participant to how long its answers took, sorted."""
    owners = _owners(files)
    found: dict[str, list[float]] = {}
    for name in files.participants():
        with files.read(name) as connection:
            for command, span_s in flows.call_spans(connection, _SAGAS_SAMPLED):
                if command in owners:
                    found.setdefault(owners[command], []).append(span_s)
    return {name: sorted(spans) for name, spans in found.items()}


def _owners(files: Files) -> dict[str, str]:
    if not files.has_control():
        return {}
    with files.control() as connection:
        return {e.type: e.participant for e in control.catalog(connection).values()}


def _disk(files: Files, name: str) -> Disk:
    def size(suffix: str) -> int:
        path = files.data / f"{name}.db{suffix}"
        return path.stat().st_size if path.exists() else 0

    return Disk(name=name, database=size(""), log=size("-wal"))


def _moment(at: float | None) -> datetime | None:
    return None if at is None else utc(at)
