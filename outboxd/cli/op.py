"""``outboxd op``: what people and programs asked for, and what became of it."""

from __future__ import annotations

import click

from outboxd.clock import SystemClock, utc
from outboxd.monitor import Monitor
from outboxd.settings import Settings
from outboxd.store.control import Request

from .actions import shown
from .groups import Group
from .options import with_output, with_settings
from .output import Column, Output, ago, clock_time, colour_of, moment, stated


@click.group(cls=Group)
def op() -> None:
    """Operations: who asked for what, and what became of it."""


@op.command("list")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many."
)
@with_settings
@with_output
def list_(settings: Settings, out: Output, limit: int) -> None:
    """The latest operations, sends included; the newest first."""
    with Monitor(settings.data) as monitor:
        requests = monitor.requests(limit)
    if out.is_json:
        out.document([shown(request) for request in requests])
        return
    out.rows(requests, _columns(), empty="Nobody has asked for anything yet.")


@op.command()
@click.argument("op_id", metavar="ID")
@with_settings
@with_output
def show(settings: Settings, out: Output, op_id: str) -> None:
    """All about one operation."""
    with Monitor(settings.data) as monitor:
        request = monitor.request(op_id)
    if out.is_json:
        out.document(shown(request))
        return
    now = utc(SystemClock().now())
    applied_at = None if request.applied_at is None else utc(request.applied_at)
    asked = f"{clock_time(utc(request.at), now)} by {request.who or 'unknown'}"
    for name, value in (
        ("operation", f"{request.id}  {out.state(request.state)}"),
        ("asks for", f"{request.kind} {request.target}"),
        ("of", request.participant),
        ("asked", asked + (f", because {request.reason}" if request.reason else "")),
        ("settled", "not yet" if applied_at is None else clock_time(applied_at, now)),
        ("result", request.result or "-"),
        ("with", request.args.decode(errors="replace")),
    ):
        out.line(f"{name:<10} {value}")


def _columns() -> list[Column[Request]]:
    now = utc(SystemClock().now())
    return [
        Column(title="ID", text=lambda r: r.id, least=11),
        Column(title="KIND", text=lambda r: r.kind),
        Column(title="PARTICIPANT", text=lambda r: r.participant, drops=1),
        Column(title="TARGET", text=lambda r: r.target, least=12),
        Column(
            title="STATE",
            text=lambda r: stated(r.state),
            raw=lambda r: r.state,
            colour=lambda r: colour_of(r.state),
        ),
        Column(title="WHO", text=lambda r: r.who, drops=2),
        Column(
            title="AGE",
            text=lambda r: ago(utc(r.at), now),
            raw=lambda r: moment(utc(r.at)),
            align=">",
        ),
        Column(title="RESULT", text=lambda r: r.result, drops=4, least=12),
    ]
