"""``outboxd pause`` and ``resume``: a participant takes nothing for a while."""

from __future__ import annotations

import click

from outboxd import operate
from outboxd.settings import Settings

from .actions import report
from .options import confirmed, reasoned, with_output, with_settings, yes_option
from .output import Output


@click.command()
@click.argument("participants", metavar="[PARTICIPANT]...", nargs=-1)
@click.option("--reason", help="Why, for the audit trail; asked for if it is not given.")
@yes_option
@with_settings
@with_output
def pause(
    settings: Settings, out: Output, participants: tuple[str, ...], reason: str | None, *, yes: bool
) -> None:
    """Let participants, or all of them, take nothing until resume.

    A paused participant reads no message, begins no attempt and fires no timer; what runs ends as
    usual. What is sent to it is kept where it is, and deadlines get the time back. A pause outlives
    a restart.

    \b
      outboxd pause payments --reason "the bank is closed"
      outboxd resume payments
    """
    operate.expect(settings.data, participants)
    said = reasoned(reason)
    confirmed(f"Pause {', '.join(participants) or 'every participant'}?", yes=yes)
    report(settings, out, operate.pause(settings.data, participants, reason=said))


@click.command()
@click.argument("participants", metavar="[PARTICIPANT]...", nargs=-1)
@click.option("--reason", default="", help="Why, for the audit trail.")
@with_settings
@with_output
def resume(settings: Settings, out: Output, participants: tuple[str, ...], reason: str) -> None:
    """Let paused participants, or all of them, go on."""
    report(settings, out, operate.resume(settings.data, participants, reason=reason))
