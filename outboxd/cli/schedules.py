"""``outboxd schedules``: what fires by time alone, and when it does next."""

from __future__ import annotations

from datetime import datetime

import click
import msgspec

from outboxd.clock import SystemClock, utc
from outboxd.monitor.files import Files
from outboxd.settings import Settings
from outboxd.store import schedules as rows

from .options import with_output, with_settings
from .output import Column, Output, ago, ahead


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule; ``next_at`` is None for one that the code has no more."""

    participant: str
    name: str
    spec: str
    next_at: datetime | None
    fired: int
    last_at: datetime | None


@click.command()
@with_settings
@with_output
def schedules(settings: Settings, out: Output) -> None:
    """What fires by time alone: when it does next, how often and when it has.

    A firing that waits, failed or died is a message like any other: `outboxd dead list` and
    `outboxd why PARTICIPANT/every/NAME#N` tell of it.
    """
    found = _read(settings)
    if out.is_json:
        out.document(found)
        return
    now = utc(SystemClock().now())
    out.rows(
        found,
        [
            Column(title="PARTICIPANT", text=lambda p: p.participant),
            Column(title="NAME", text=lambda p: p.name, least=12),
            Column(title="WHEN", text=lambda p: p.spec, least=12),
            Column(title="NEXT", text=lambda p: ahead(p.next_at, now) if p.next_at else "never"),
            Column(title="FIRED", text=lambda p: f"{p.fired:,}", align=">"),
            Column(title="LAST", text=lambda p: ago(p.last_at, now) if p.last_at else ""),
        ],
        empty="No participant has a schedule.",
    )


def _read(settings: Settings) -> list[Planned]:
    files = Files(settings.data)
    found: list[Planned] = []
    try:
        for participant in files.participants():
            with files.read(participant) as connection:
                known = rows.everything(connection) if rows.is_there(connection) else []
            found += [_planned(participant, row) for row in known]
    finally:
        files.close()
    return found


def _planned(participant: str, row: rows.Planned) -> Planned:
    return Planned(
        participant=participant,
        name=row.name,
        spec=row.spec,
        next_at=None if row.due_at is None else utc(row.due_at),
        fired=row.fired,
        last_at=None if row.fired_at is None else utc(row.fired_at),
    )
