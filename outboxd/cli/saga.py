"""``outboxd saga``: workflows, trouble first; one of them, all of it; and what moves it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import click

from outboxd import operate
from outboxd.clock import SystemClock, in_words, utc
from outboxd.errors import Refused
from outboxd.monitor import HistoryRow, Monitor, SagaDetail, SagaRow, SagaStep
from outboxd.monitor.filtering import SAGA_FIELDS, parse, term
from outboxd.settings import Settings

from .actions import report
from .groups import Group
from .options import (
    confirmed,
    filter_option,
    reason_option,
    reasoned,
    with_data,
    with_output,
    with_settings,
    yes_option,
)
from .output import (
    Column,
    Output,
    ago,
    ahead,
    clock_time,
    colour_of,
    counted,
    moment,
    stated,
    whole,
    wrapped,
)

_STATES = (
    "stuck, compensating, retrying, overdue, running, waiting, completed, compensated, cancelled, "
    "open or ended"
)


@click.group(cls=Group)
def saga() -> None:
    """Workflows: list, show; cancel, retry, skip, resolve, kill.

    \b
      cancel   undoes what the saga did, the last step first
      retry    makes a stuck saga's step again, after a fix
      skip     answers the step it waits for, by hand
      resolve  ends it as you say it ended; nothing more is done
      kill     ends it as it stands; nothing is undone
    """


@saga.command("list")
@click.option("--state", "states", multiple=True, help=f"Only these: {_STATES}.")
@click.option("--type", "types", multiple=True, help="Only this saga, by its function's name.")
@click.option("--key", "keys", multiple=True, help="Only with this in its key.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many."
)
@filter_option(", ".join(SAGA_FIELDS))
@with_settings
@with_output
def list_(
    settings: Settings,
    out: Output,
    states: tuple[str, ...],
    types: tuple[str, ...],
    keys: tuple[str, ...],
    limit: int,
    filter_: str,
) -> None:
    """Sagas, trouble first; the ended ones last.

    \b
      outboxd saga list --state stuck
      outboxd saga list --filter 'state:!completed age:>5m courier'
      outboxd saga list --json | jq '.[].id'
    """
    terms = parse(filter_, SAGA_FIELDS)
    for field, values in (("state", states), ("type", types), ("key", keys)):
        if values:
            terms.append(term(field, *values))
    with Monitor(settings.data) as monitor:
        page = monitor.sagas(terms, limit)
    empty = "No saga has started. Send one: outboxd send TYPE '{…}'"
    if page.total:
        empty = f"0 of {counted(page.total, 'saga')} match."
    if out.is_json:
        out.document(page.rows)
    else:
        out.rows(page.rows, _columns(page.rows, utc(SystemClock().now())), empty=empty)
    if page.matching > len(page.rows):
        out.say(f"{len(page.rows)} of {page.matching:,} shown; --limit N shows more")


@saga.command()
@click.argument("saga_id", metavar="ID")
@with_settings
@with_output
def show(settings: Settings, out: Output, saga_id: str) -> None:
    """One saga by its id or key: steps, history, what it waits for, what would move it."""
    with Monitor(settings.data) as monitor:
        detail = monitor.saga(saga_id)
    if out.is_json:
        out.document(detail)
    else:
        page(settings, out, detail)


@saga.command()
@click.argument("saga_id", metavar="ID")
@reason_option
@yes_option
@with_settings
@with_output
def cancel(settings: Settings, out: Output, saga_id: str, reason: str | None, *, yes: bool) -> None:
    """Cancel a saga: what it did is undone, the last step first."""
    full = _open(settings, saga_id)
    said = reasoned(reason)
    confirmed(f"Cancel {full} and undo what it did?", yes=yes)
    report(settings, out, operate.cancel(settings.data, full, reason=said))


@saga.command()
@click.argument("saga_id", metavar="ID")
@reason_option
@with_settings
@with_output
def retry(settings: Settings, out: Output, saga_id: str, reason: str | None) -> None:
    """Make a stuck saga's step again, after a fix of its code."""
    full = _open(settings, saga_id)
    report(settings, out, operate.retry(settings.data, full, reason=reasoned(reason)))


@saga.command()
@click.argument("saga_id", metavar="ID")
@click.argument("value", metavar="[JSON]", default="null")
@click.option("--step", type=int, help="Its number, where the saga waits for several.")
@reason_option
@yes_option
@with_settings
@with_output
def skip(
    settings: Settings,
    out: Output,
    saga_id: str,
    value: str,
    step: int | None,
    reason: str | None,
    *,
    yes: bool,
) -> None:
    """Answer the step that a saga waits for by hand; the step itself never runs late.

    JSON is the answer: it must fit the reply of the step's command; null, the default, for a
    command without one and for an undo that you made yourself. If the saga unwinds later, the
    step's undo runs only if the step itself had been carried out.

    \b
      outboxd saga skip 10431 '{"booking": "c-7"}' --reason 'booked by phone'
    """
    full = _open(settings, saga_id)
    said = reasoned(reason)
    confirmed(f"Answer the step that {full} waits for with {value}?", yes=yes)
    asked = operate.skip(settings.data, full, value.encode(), step=step, reason=said)
    report(settings, out, asked)


@saga.command()
@click.argument("saga_id", metavar="ID")
@click.argument("state", type=click.Choice(["completed", "compensated"]))
@click.argument("result", metavar="[JSON]", default="null")
@reason_option
@yes_option
@with_settings
@with_output
def resolve(
    settings: Settings,
    out: Output,
    saga_id: str,
    state: Literal["completed", "compensated"],
    result: str,
    reason: str | None,
    *,
    yes: bool,
) -> None:
    """End a saga as you say that it ended: nothing more is done, and nothing runs late.

    Whoever waits for it is answered: with JSON, which must fit what the saga returns, or "no".

    \b
      outboxd saga resolve 10431 completed '"shipped"' --reason 'sent by hand'
      outboxd saga resolve 10431 compensated --reason 'refunded at the till'
    """
    full = _open(settings, saga_id)
    said = reasoned(reason)
    confirmed(f"End {full} as {state}? Nothing more is done.", yes=yes)
    asked = operate.resolve(settings.data, full, state, result.encode(), reason=said)
    report(settings, out, asked)


@saga.command()
@click.argument("saga_id", metavar="ID")
@reason_option
@yes_option
@with_settings
@with_output
def kill(settings: Settings, out: Output, saga_id: str, reason: str | None, *, yes: bool) -> None:
    """End a saga as it stands: NOTHING is undone. cancel is what you want, nearly always."""
    full = _open(settings, saga_id)
    said = reasoned(reason)
    confirmed(f"Kill {full}? What it did stays done.", yes=yes)
    report(settings, out, operate.kill(settings.data, full, reason=said))


def page(settings: Settings, out: Output, detail: SagaDetail) -> None:
    """A saga on one page."""
    now = utc(SystemClock().now())
    saga = detail.saga
    out.line(f"{out.painted(saga.id, bold=True)}  {out.state(saga.state)}")
    out.line(_dates(saga, detail, now))
    if detail.reason:
        out.line(f"reason: {detail.reason}")
    if detail.result is not None:
        out.line(f"result: {bytes(detail.result).decode(errors='replace')}")
    out.heading("STEPS")
    out.rows(detail.steps, _step_columns(), empty="  none yet")
    out.heading("HISTORY")
    out.rows(detail.history, _history_columns(now), empty="  none yet")
    for operation in detail.operations:
        why = f": {operation.reason}" if operation.reason else ""
        out.line(f"{clock_time(operation.at, now)}  {operation.did} by {operation.who}{why}")
    if detail.stuck in ("bug", "code changed") and detail.detail:
        out.heading("ERROR")
        out.line(textwrap.indent(detail.detail.rstrip(), "  "))
    if detail.waits_for:
        out.heading("WAITS")
        for sentence in detail.waits_for:
            out.line(wrapped(sentence, out.width))
    if detail.moves:
        out.heading("WHAT MOVES IT")
        for command in detail.moves:
            out.line(f"  {with_data(command, settings)}")


def _open(settings: Settings, saga_id: str) -> str:
    """The full id; raises Refused for a saga that has ended, for which nothing can be done."""
    with Monitor(settings.data) as monitor:
        saga = monitor.saga(saga_id).saga
    if saga.ended_at is not None:
        raise Refused(f"{saga.id} has ended: {saga.state}")
    return saga.id


def _dates(saga: SagaRow, detail: SagaDetail, now: datetime) -> str:
    text = f"{saga.type} v{detail.version}, started {ago(saga.started_at, now)} ago"
    if saga.ended_at is None:
        text += f", moved {ago(saga.moved_at, now)} ago"
        return text + (", past its point of no return" if detail.is_forward_only else "")
    return f"{text}, took {in_words((saga.ended_at - saga.started_at).total_seconds())}"


def _columns(rows: Sequence[SagaRow], now: datetime) -> list[Column[SagaRow]]:
    least = max(19, 2 + whole(row.key for row in rows))
    return [
        Column(title="SAGA", text=lambda r: r.id, least=least, cut="start"),
        Column(
            title="STATE",
            text=lambda r: stated(r.state),
            raw=lambda r: r.state,
            colour=lambda r: colour_of(r.state),
        ),
        Column(title="STEP", text=lambda r: r.step or "-", least=12),
        Column(title="TRY", text=lambda r: str(r.tries) if r.tries else "-", align=">", drops=2),
        Column(
            title="NEXT",
            text=lambda r: ahead(r.next_at, now),
            raw=lambda r: moment(r.next_at),
            align=">",
            drops=4,
        ),
        Column(
            title="AGE",
            text=lambda r: ago(r.started_at, now),
            raw=lambda r: moment(r.started_at),
            align=">",
            drops=1,
        ),
        Column(title="LAST ERROR", text=lambda r: r.error or "-", least=16, drops=3),
    ]


def _step_columns() -> list[Column[SagaStep]]:
    return [
        Column(title="#", text=lambda s: str(s.pos), align=">"),
        Column(title="STEP", text=lambda s: s.title, raw=lambda s: s.name, least=12),
        Column(title="AT", text=lambda s: s.to or "-", least=8, drops=3),
        Column(
            title="STATE",
            text=lambda s: stated(s.state),
            raw=lambda s: s.state,
            colour=lambda s: colour_of(s.state),
        ),
        Column(title="UNDO", text=lambda s: f"↶ {s.undo}" if s.undo else "-", drops=2),
        Column(title="FAILED", text=lambda s: str(s.failed_tries or "-"), align=">", drops=1),
        Column(
            title="TOOK",
            text=lambda s: "-" if s.took_s is None else in_words(s.took_s),
            raw=lambda s: "" if s.took_s is None else f"{s.took_s:.3f}",
            align=">",
        ),
        Column(title="RESULT", text=lambda s: s.text or "-", least=12, drops=4),
    ]


def _history_columns(now: datetime) -> list[Column[HistoryRow]]:
    return [
        Column(title="TIME", text=lambda h: clock_time(h.at, now), raw=lambda h: moment(h.at)),
        Column(title="+", text=lambda h: f"{h.since_s:.3f}", align=">", drops=2),
        Column(title="KIND", text=lambda h: h.kind.replace("_", " ")),
        Column(title="NAME", text=lambda h: h.name or "-", least=16),
        Column(title="TEXT", text=lambda h: h.text or "-", least=16, drops=3),
    ]
