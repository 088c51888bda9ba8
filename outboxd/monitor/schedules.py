"""What fires by time alone: when it does next, what became of it, and what it has set going."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

import msgspec

from outboxd.clock import in_words, utc
from outboxd.store import schedules as rows
from outboxd.store.connection import Connection
from outboxd.store.reading import schedules as reading

from .files import Files

LATE_S = 5.0
"""A firing waits for the commit that is under way; a busy participant is no trouble yet."""

_FIRING = re.compile(
    r"(?P<participant>[^/]+)/every/(?P<name>[^/#]+)(?:#(?P<n>\d{1,18})(?:\.\d+)*)?"
)


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule; ``next_at`` is None for one that the code has no more.

    ``state``: waiting for its time; late; retrying or dead, as its firings are; or gone.
    ``letter``: the last firing that died; ``error``: what it said.
    """

    participant: str
    name: str
    spec: str
    next_at: datetime | None
    fired: int
    last_at: datetime | None
    state: Literal["waiting", "late", "retrying", "dead", "gone"] = "waiting"
    letter: str | None = None
    error: str | None = None


class Firing(msgspec.Struct, frozen=True):
    """Which time of which schedule set something going; ``n`` is None for the schedule itself."""

    schedule: Planned
    n: int | None

    @property
    def text(self) -> str:
        """``the schedule ticker.sweep, every 300s: its firing 12``."""
        plan = self.schedule
        text = f"the schedule {plan.participant}.{plan.name}, {plan.spec}"
        return text if self.n is None else f"{text}: its firing {self.n}"


def every(files: Files, now: float) -> list[Planned]:
    """Each schedule of each participant here."""
    return [plan for name in files.participants() for plan in _of(files, name, now)]


def firing(files: Files, message_id: str, now: float) -> Firing | None:
    """Which firing a message goes back to: ids tell, since each begins with that of its cause."""
    said = _FIRING.fullmatch(message_id)
    if said is None or not files.has(said["participant"]):
        return None
    plans = _of(files, said["participant"], now)
    plan = next((plan for plan in plans if plan.name == said["name"]), None)
    return None if plan is None else Firing(plan, int(said["n"]) if said["n"] else None)


def when(plan: Planned, now: float) -> str:
    """When it fires next, for a sentence."""
    if plan.next_at is None:
        return "never: the code has it no more"
    left = plan.next_at.timestamp() - now
    return f"in {in_words(left)}" if left >= 0 else f"due for {in_words(left)}"


def _of(files: Files, participant: str, now: float) -> list[Planned]:
    with files.read(participant) as connection:
        known = rows.everything(connection) if rows.is_there(connection) else []
        return [_planned(connection, participant, row, now) for row in known]


def _planned(connection: Connection, participant: str, row: rows.Planned, now: float) -> Planned:
    found = reading.firings(connection, f"{participant}/every/{row.name}#")
    state: Literal["waiting", "late", "retrying", "dead", "gone"] = "waiting"
    if found.letter is not None:
        state = "dead"
    elif found.error is not None:
        state = "retrying"
    elif row.due_at is None:
        state = "gone"
    elif row.due_at < now - LATE_S:
        state = "late"
    return Planned(
        participant=participant,
        name=row.name,
        spec=row.spec,
        next_at=None if row.due_at is None else utc(row.due_at),
        fired=row.fired,
        last_at=None if row.fired_at is None else utc(row.fired_at),
        state=state,
        letter=None if found.letter is None else f"{participant}/d-{found.letter}",
        error=found.error,
    )
