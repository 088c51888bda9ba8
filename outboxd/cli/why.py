"""``outboxd why``: what a saga or a message waits for, and what would move it."""

from __future__ import annotations

import click

from outboxd.monitor import Monitor
from outboxd.settings import Settings

from .options import with_data, with_output, with_settings
from .output import Output, wrapped


@click.command()
@click.argument("name", metavar="ID")
@with_settings
@with_output
def why(settings: Settings, out: Output, name: str) -> None:
    """What a saga or message waits for, and what moves it.

    \b
      outboxd why 10431                        a saga, by its key
      outboxd why orders/fulfil/10431          or by its id
      outboxd why d-7                          a dead letter
      outboxd why 'orders/fulfil/10431#2'      the message of its second step
    """
    with Monitor(settings.data) as monitor:
        found = monitor.why(name)
    if out.is_json:
        out.document(found)
        return
    out.line(f"{out.painted(found.id, bold=True)}  {out.state(found.state)}")
    for sentence in found.waits_for or ("for nothing",):
        out.line(wrapped(f"waits {sentence}", out.width))
    for command in found.moves:
        out.line(f"  move it: {with_data(command, settings)}")
