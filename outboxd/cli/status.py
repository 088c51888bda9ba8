"""``outboxd status``: one screen of health."""

from __future__ import annotations

from datetime import datetime

import click

from outboxd import __version__
from outboxd.errors import OutboxdError
from outboxd.monitor import Health, Monitor, Overview
from outboxd.settings import Settings

from . import exits
from .options import with_data, with_output, with_settings
from .output import Column, Output, ago, ahead, colour_of, counted, moment, shortened

MANY = 5
"""More letters than these are looked at by their causes."""

_STATES = ("stuck", "compensating", "running", "completed", "compensated", "cancelled")


@click.command()
@click.option("--check", is_flag=True, help="One line; exit 0 if healthy, 1 if not.")
@with_settings
@with_output
def status(settings: Settings, out: Output, *, check: bool) -> None:
    """One screen of health.

    \b
      outboxd status
      outboxd status --check          for Docker's HEALTHCHECK and for cron
      outboxd status --json | jq .participants

    Healthy means: the daemon runs, reaches its broker and reports no problem. Stuck sagas and dead
    letters need a person, not a restart: they are named, and do not make it unhealthy.
    """
    if check:
        _check(settings, out)
        return
    with Monitor(settings.data) as monitor:
        overview = monitor.overview()
    if out.is_json:
        out.document(overview)
    elif out.is_tty:
        _page(settings, out, overview)
    else:
        out.rows(overview.participants, _columns(overview.at))


def _check(settings: Settings, out: Output) -> None:
    try:
        with Monitor(settings.data) as monitor:
            overview = monitor.overview()
    except OutboxdError as error:
        out.line(f"unhealthy: {error.message}")
        raise exits.Stop(exits.FAILED) from error
    if overview.problems:
        out.line(f"unhealthy: {'; '.join(overview.problems)}")
        raise exits.Stop(exits.FAILED)
    running = overview.sagas("running") + overview.sagas("compensating")
    out.line(
        f"ok: {counted(len(overview.participants), 'participant')}, {running:,} sagas open, "
        f"{overview.sagas('stuck'):,} stuck, {counted(overview.letters, 'dead letter')}"
    )


def _page(settings: Settings, out: Output, overview: Overview) -> None:
    out.line(f"data       {overview.data}")
    out.line(f"daemon     {_daemon(out, overview)}")
    out.line(f"broker     {_broker(out, overview)}")
    out.line()
    out.rows(overview.participants, _columns(overview.at), empty="No participant has any data yet.")
    out.line()
    out.line(f"sagas      {_sagas(out, overview)}")
    if overview.schedules:
        _say_schedules(out, overview)
    if overview.requests_pending:
        out.line(f"requests   {counted(overview.requests_pending, 'request')} not applied yet")
    for health in overview.participants:
        if health.paused is not None:
            out.line(f"paused     {health.participant} {health.paused}")
    for problem in overview.problems:
        out.line(f"problem    {out.painted(problem, 'red')}")
    for command in _next(overview):
        out.line(f"next       {with_data(command, settings)}")


def _daemon(out: Output, overview: Overview) -> str:
    daemon = overview.daemon
    if daemon.state == "down":
        return out.painted("○ down", "red") + ", what is below is at rest and safe"
    word = (
        out.painted("● up", "green") if daemon.state == "up" else out.painted("◔ silent", "yellow")
    )
    facts = [f"{word} {ago(daemon.started_at, overview.at)}", f"pid {daemon.pid}"]
    facts += [text for text in (daemon.node, daemon.version) if text]
    if daemon.version not in (None, __version__):
        facts.append(out.painted(f"this command is {__version__}", "yellow"))
    return ", ".join(facts)


def _broker(out: Output, overview: Overview) -> str:
    daemon = overview.daemon
    if daemon.broker.state == "unknown":
        return "unknown"
    word = out.painted("● up", "green")
    if daemon.broker.state == "down":
        word = out.painted("○ down", "red")
    return f"{word} {ago(daemon.broker.since, overview.at)}, {daemon.redis or 'embedded'}"


def _sagas(out: Output, overview: Overview) -> str:
    parts = []
    for state in _STATES:
        number = overview.sagas(state)
        if number:
            colour = colour_of(state) if state in ("stuck", "compensating") else None
            parts.append(out.painted(f"{number:,} {state}", colour))
    return ", ".join(parts) or "none has started"


def _say_schedules(out: Output, overview: Overview) -> None:
    """How many and the next one; then those in trouble, one a line."""
    plans = [plan for plan in overview.schedules if plan.next_at is not None]
    first = min(plans, key=lambda plan: plan.next_at or overview.at, default=None)
    said = f"{len(plans):,}"
    if first is not None:
        word = "next" if first.state != "late" else "due was"
        said += f", {word} {first.participant}.{first.name} {ahead(first.next_at, overview.at)}"
    out.line(f"schedules  {said}")
    for plan in overview.schedules:
        if plan.state in ("late", "retrying", "dead"):
            what = plan.letter or (plan.state if plan.state == "retrying" else "")
            why = f"{what}: {plan.error}" if plan.error else ahead(plan.next_at, overview.at)
            text = shortened(f"{plan.participant}.{plan.name}  {why}", max(40, out.width - 20))
            out.line(f"           {out.state(plan.state)}  {text}")


def _next(overview: Overview) -> list[str]:
    found = []
    if any(health.paused is not None for health in overview.participants):
        found.append("outboxd resume")
    if overview.sagas("stuck"):
        found.append("outboxd saga list --state stuck")
    if overview.letters:
        is_many = overview.letters > MANY
        found.append("outboxd dead list --group" if is_many else "outboxd dead list")
    return found


def _columns(now: datetime) -> list[Column[Health]]:
    def number(title: str, field: str, drops: int = 0, colour: str | None = None) -> Column[Health]:
        return Column(
            title=title,
            text=lambda health: f"{getattr(health, field):,}",
            raw=lambda health: str(getattr(health, field)),
            align=">",
            drops=drops,
            colour=lambda health: colour if getattr(health, field) else None,
        )

    return [
        Column(title="PARTICIPANT", text=lambda h: h.participant, least=12),
        number("OUTBOX", "outbox"),
        Column(
            title="OLDEST",
            text=lambda h: ago(h.outbox_oldest_at, now),
            raw=lambda h: moment(h.outbox_oldest_at),
            align=">",
            drops=3,
        ),
        number("WAIT", "waiting"),
        number("RETRY", "retrying", colour="yellow"),
        number("RUN", "running"),
        number("HELD", "held", drops=2, colour="yellow"),
        number("DEAD", "letters", colour="red"),
        Column(
            title="NEXT TIMER",
            text=lambda h: f"{h.next_what} {ahead(h.next_at, now)}" if h.next_what else "-",
            raw=lambda h: moment(h.next_at),
            drops=1,
        ),
    ]
