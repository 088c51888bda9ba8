"""``outboxd subscriber``: who reads whose events, and who is gone for good."""

from __future__ import annotations

import click

from outboxd import operate
from outboxd.clock import SystemClock, utc
from outboxd.monitor import Monitor, Subscriber
from outboxd.settings import Settings

from .actions import report
from .groups import Group
from .options import confirmed, reasoned, with_output, with_settings, yes_option
from .output import Column, Output, ago, moment


@click.group(cls=Group)
def subscriber() -> None:
    """Subscribers: who reads whose events."""


@subscriber.command("list")
@with_settings
@with_output
def list_(settings: Settings, out: Output) -> None:
    """Every subscription that a participant here keeps its events for."""
    with Monitor(settings.data) as monitor:
        found = monitor.subscribers()
    if out.is_json:
        out.document(found)
        return
    out.rows(found, _columns(), empty="Nobody subscribes to events of a participant here.")


@subscriber.command()
@click.argument("name", metavar="NAME")
@click.option("--from", "publisher", required=True, metavar="PUBLISHER", help="Whose events.")
@click.option("--reason", help="Why, for the audit trail; asked for if it is not given.")
@yes_option
@with_settings
@with_output
def remove(
    settings: Settings, out: Output, name: str, publisher: str, reason: str | None, *, yes: bool
) -> None:
    """Keep events no longer for a subscriber that is gone for good.

    Events are kept until every subscriber holds them. If it comes back, it subscribes anew and
    misses what was published in between.

        outboxd subscriber remove reports --from orders --reason "retired in May"
    """
    operate.expect(settings.data, [publisher])
    said = reasoned(reason)
    confirmed(f"Keep the events of {publisher} no longer for {name}?", yes=yes)
    report(settings, out, operate.remove_subscriber(settings.data, name, publisher, reason=said))


def _columns() -> list[Column[Subscriber]]:
    now = utc(SystemClock().now())
    return [
        Column(title="NAME", text=lambda s: s.name, least=12),
        Column(title="FROM", text=lambda s: s.publisher, least=12),
        Column(title="SINCE", text=lambda s: ago(s.at, now), raw=lambda s: moment(s.at), align=">"),
        Column(title="KEPT", text=lambda s: str(s.kept), align=">"),
    ]
