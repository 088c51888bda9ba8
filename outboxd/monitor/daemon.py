"""Whether the daemon of a data directory lives, from the note that it writes each second."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from outboxd.clock import utc
from outboxd.datadir import STATUS, is_claimed

FULL_BYTES = 256 * 1024
"""With less room on its disk a database cannot commit."""

SILENT_AFTER_S = 5.0
"""The note is written each second; a loaded machine may skip a few."""


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """The broker as the daemon sees it; ``since``: when it came to be so."""

    state: Literal["up", "down", "unknown"] = "unknown"
    since: datetime | None = None
    error: str | None = None


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: up; silent when its process is there and has said nothing for a while; or down.

    Everything else is what it said last; ``problems`` are sentences.
    """

    state: Literal["up", "silent", "down"] = "down"
    pid: int | None = None
    node: str | None = None
    version: str | None = None
    started_at: datetime | None = None
    at: datetime | None = None
    redis: str | None = None
    broker: Broker = Broker()
    participants: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class _BrokerNote(msgspec.Struct):
    state: Literal["up", "down", "unknown"] = "unknown"
    since: float | None = None
    error: str | None = None


class _Note(msgspec.Struct):
    pid: int
    at: float
    node: str | None = None
    started_at: float | None = None
    version: str | None = None
    redis: str | None = None
    broker: _BrokerNote = msgspec.field(default_factory=_BrokerNote)
    participants: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def read(data: Path, now: float) -> Daemon:
    """The daemon of ``data``; one that stopped cleanly has taken its note away."""
    try:
        note = msgspec.json.decode((data / STATUS).read_bytes(), type=_Note)
    except (OSError, msgspec.MsgspecError):
        return Daemon()
    is_fresh = now - note.at < SILENT_AFTER_S
    state: Literal["up", "silent", "down"] = "up" if is_fresh else "silent"
    if not is_claimed(data):
        state = "down"
    return Daemon(
        state=state,
        pid=note.pid,
        node=note.node,
        version=note.version,
        started_at=_moment(note.started_at),
        at=utc(note.at),
        redis=note.redis,
        broker=Broker(
            state=note.broker.state, since=_moment(note.broker.since), error=note.broker.error
        )
        if state == "up"
        else Broker(),
        participants=note.participants,
        problems=note.problems,
    )


def is_disk_full(data: Path) -> bool:
    """The daemon cannot write that it is: the note needs room, too."""
    return shutil.disk_usage(data).free < FULL_BYTES


def _moment(at: float | None) -> datetime | None:
    return None if at is None else utc(at)
