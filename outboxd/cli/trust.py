"""``outboxd trust``: a participant whose store was restored is believed again."""

from __future__ import annotations

import click

from outboxd import operate
from outboxd.settings import Settings

from .actions import report
from .options import confirmed, reasoned, with_output, with_settings, yes_option
from .output import Output


@click.command()
@click.argument("sender", metavar="PARTICIPANT")
@click.option("--reason", help="Why, for the audit trail; asked for if it is not given.")
@yes_option
@with_settings
@with_output
def trust(settings: Settings, out: Output, sender: str, reason: str | None, *, yes: bool) -> None:
    """Believe a restored store: take what it sends from now on.

    A store that was restored from a backup numbers its messages anew. Its receivers hold them back
    until a person says that this is right: what it had sent since the backup may be sent again.

        outboxd trust payments --reason "restored the backup of Monday"
    """
    operate.expect(settings.data, [sender])
    said = reasoned(reason)
    confirmed(f"Believe the store that {sender} has now?", yes=yes)
    report(settings, out, operate.trust(settings.data, sender, reason=said))
