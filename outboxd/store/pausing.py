"""Whether a participant is paused: said by a person, kept until a person says otherwise."""

from __future__ import annotations

import msgspec

from . import meta
from .connection import Connection

_KEY = "paused"


class Pause(msgspec.Struct, frozen=True):
    """Since when (UTC seconds), by whom and why."""

    at: float
    who: str
    reason: str


def get(connection: Connection) -> Pause | None:
    """The pause that is in force (primary key)."""
    found = meta.get(connection, _KEY)
    return None if not found else msgspec.json.decode(found, type=Pause)


def put(connection: Connection, pause: Pause | None) -> None:
    """Pauses, or resumes with None."""
    meta.put(connection, _KEY, "" if pause is None else msgspec.json.encode(pause).decode())
