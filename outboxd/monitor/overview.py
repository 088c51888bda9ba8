"""One screen of health: the daemon, the broker, and how much lies where."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from outboxd.clock import in_words, utc
from outboxd.store import pausing
from outboxd.store.connection import Connection
from outboxd.store.pausing import Pause
from outboxd.store.reading import amounts

from . import daemon, schedules
from .daemon import Daemon
from .files import Files
from .schedules import Planned


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """One participant. Of its outbox: rows that not every receiver holds yet, and the oldest.

    Of its inbox: ``waiting`` behind others, ``retrying`` after a failure, ``running``, and ``held``
    until a person acts. ``next_at`` is when the next timer falls due, ``next_what`` which;
    ``paused``: by whom, since when and why it takes nothing.
    """

    participant: str
    outbox: int
    outbox_oldest_at: datetime | None
    delayed: int
    waiting: int
    retrying: int
    running: int
    held: int
    letters: int
    letters_oldest_at: datetime | None
    sagas: dict[str, int]
    next_at: datetime | None
    next_what: str | None
    paused: str | None = None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A data directory at one moment. ``problems`` are sentences; without any it is healthy."""

    data: str
    at: datetime
    daemon: Daemon
    participants: tuple[Health, ...]
    requests_pending: int
    problems: tuple[str, ...]
    schedules: tuple[Planned, ...] = ()

    @property
    def letters(self) -> int:
        return sum(health.letters for health in self.participants)

    def sagas(self, state: str) -> int:
        """How many sagas are in ``state``, over all participants."""
        return sum(health.sagas.get(state, 0) for health in self.participants)


def overview(files: Files, now: float) -> Overview:
    """Raises ConfigError where outboxd never ran."""
    participants = []
    for name in files.participants():
        with files.read(name) as connection:
            health = _health(connection, name, files.ended(name, connection, now))
            paused = _paused(pausing.get(connection), now)
            participants.append(msgspec.structs.replace(health, paused=paused))
    alive = daemon.read(files.data, now)
    return Overview(
        data=str(files.data),
        at=utc(now),
        daemon=alive,
        participants=tuple(participants),
        requests_pending=_pending(files),
        problems=tuple(_problems(files.data, alive, now)),
        schedules=tuple(schedules.every(files, now)),
    )


def _health(connection: Connection, name: str, ended: amounts.Ended) -> Health:
    streams = amounts.streams(connection)
    inbox = amounts.inbox_count(connection)
    delayed, delayed_at = amounts.delayed(connection)
    letters, letters_at = amounts.open_letters(connection)
    timer = amounts.next_timer(connection)
    timers = [
        timer,
        None if delayed_at is None else (delayed_at, "delayed message"),
        None if inbox.retry_at is None else (inbox.retry_at, "retry"),
    ]
    next_at, next_what = min((t for t in timers if t is not None), default=(None, None))
    return Health(
        participant=name,
        outbox=sum(stream.rows for stream in streams),
        outbox_oldest_at=_moment(amounts.outbox_oldest_at(connection, streams)),
        delayed=delayed,
        waiting=inbox.waiting,
        retrying=inbox.retrying,
        running=inbox.running,
        held=inbox.held,
        letters=letters,
        letters_oldest_at=_moment(letters_at),
        sagas=amounts.open_sagas(connection) | ended.counts,
        next_at=_moment(next_at),
        next_what=next_what,
    )


def _paused(pause: Pause | None, now: float) -> str | None:
    if pause is None:
        return None
    return f"by {pause.who} for {in_words(now - pause.at)}: {pause.reason}"


def _pending(files: Files) -> int:
    if not files.has_control():
        return 0
    with files.control() as connection:
        return amounts.requests_pending(connection)


def _problems(data: Path, alive: Daemon, now: float) -> list[str]:
    """The cause before what comes of it."""
    full = f"the disk of {data} is full: nothing can be written, and nothing is lost"
    first = [full] if daemon.is_disk_full(data) else []
    if alive.state == "down":
        return ["the daemon does not run", *first]
    found = list(alive.problems)
    if alive.state == "silent" and alive.at is not None:
        age = in_words(now - alive.at.timestamp())
        found.insert(0, f"the daemon (pid {alive.pid}) has said nothing for {age}")
    if alive.broker.state == "down":
        since = alive.broker.since
        age = f" for {in_words(now - since.timestamp())}" if since is not None else ""
        found.insert(0, f"the broker is unreachable{age}: {alive.broker.error or 'no answer'}")
    return first + found


def _moment(at: float | None) -> datetime | None:
    return None if at is None else utc(at)
