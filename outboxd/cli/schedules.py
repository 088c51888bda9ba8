"""``outboxd schedules``: what fires by time alone, and when it does next."""

from __future__ import annotations

import click

from outboxd.clock import SystemClock, utc
from outboxd.monitor import Monitor
from outboxd.settings import Settings

from .options import with_output, with_settings
from .output import Column, Output, ago, ahead, colour_of, stated


@click.command()
@with_settings
@with_output
def schedules(settings: Settings, out: Output) -> None:
    """What fires by time alone: when it does next, how often and when it has.

    A firing that waits, failed or died is a message like any other: `outboxd dead list` and
    `outboxd why PARTICIPANT/every/NAME#N` tell of it.
    """
    with Monitor(settings.data) as monitor:
        found = monitor.schedules()
    if out.is_json:
        out.document(found)
        return
    now = utc(SystemClock().now())
    out.rows(
        found,
        [
            Column(title="PARTICIPANT", text=lambda p: p.participant),
            Column(title="NAME", text=lambda p: p.name, least=12),
            Column(
                title="STATE",
                text=lambda p: stated(p.state),
                raw=lambda p: p.state,
                colour=lambda p: colour_of(p.state),
            ),
            Column(title="WHEN", text=lambda p: p.spec, least=12),
            Column(title="NEXT", text=lambda p: ahead(p.next_at, now) if p.next_at else "never"),
            Column(title="FIRED", text=lambda p: f"{p.fired:,}", align=">"),
            Column(title="LAST", text=lambda p: ago(p.last_at, now) if p.last_at else ""),
            Column(title="ERROR", text=lambda p: p.error or "", least=12, drops=1),
        ],
        empty="No participant has a schedule.",
    )
