"""``outboxd dead``: messages that could not be handled, why, and what to do about them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
import msgspec

from outboxd import operate
from outboxd.clock import SystemClock, in_words, seconds, utc
from outboxd.errors import ConfigError, Refused
from outboxd.monitor import Attempt, LetterDetail, LetterGroup, LetterRow, Monitor
from outboxd.monitor.filtering import LETTER_FIELDS, parse
from outboxd.settings import Settings

from . import exits
from .actions import report
from .groups import Group
from .options import (
    confirmed,
    filter_option,
    reasoned,
    with_data,
    with_output,
    with_settings,
    yes_option,
)
from .output import (
    Column,
    Output,
    Standing,
    ago,
    clock_time,
    colour_of,
    counted,
    moment,
    stated,
    whole,
)
from .watching import until

_SAMPLE = 5
"""Letters that --dry-run names."""

Letter = tuple[str, int]


@click.group(cls=Group)
def dead() -> None:
    """Dead letters: list, show, export; replay, discard.

    \b
      replay    the message is handled again; a saga that is stuck on it goes on
      discard   it is given up, with a reason; a saga that is stuck on it unwinds
    """


@dead.command("list")
@click.option("--group", "is_grouped", is_flag=True, help="By cause: handler and type of error.")
@click.option("--all", "show_all", is_flag=True, help="Settled ones as well.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many."
)
@filter_option(", ".join(LETTER_FIELDS))
@with_settings
@with_output
def list_(
    settings: Settings, out: Output, limit: int, filter_: str, *, is_grouped: bool, show_all: bool
) -> None:
    """Letters that wait for a person, the latest first.

    \b
      outboxd dead list --group
      outboxd dead list --filter 'handler:courier.book since:3d'
    """
    terms = parse(filter_, LETTER_FIELDS)
    if show_all:
        terms += parse("state:!none", LETTER_FIELDS)
    now = utc(SystemClock().now())
    empty = "Nothing is dead. Letters come here after their last try."
    with Monitor(settings.data) as monitor:
        if is_grouped:
            _groups(settings, out, monitor.letter_groups(terms), empty)
            return
        page = monitor.letters(terms, limit)
    if page.live and filter_:
        empty = f"0 of {counted(page.live, 'letter')} match."
    if out.is_json:
        out.document(page.rows)
    else:
        out.rows(page.rows, _columns(page.rows, now), empty=empty)
    if len(page.rows) == limit and page.live > limit:
        out.say(f"{limit} of {page.live:,} shown; --limit N shows more, --group their causes")


@dead.command()
@click.argument("name", metavar="ID")
@with_settings
@with_output
def show(settings: Settings, out: Output, name: str) -> None:
    """One letter (d-7, or payments/d-7): error, message, attempts, what may be done."""
    with Monitor(settings.data) as monitor:
        detail = monitor.letter(name)
    if out.is_json:
        out.document(detail)
    else:
        page(settings, out, detail)


@dead.command()
@click.argument("names", metavar="ID...", nargs=-1)
@filter_option(", ".join(LETTER_FIELDS))
@click.option("--first", type=click.IntRange(min=1), help="Only so many, the oldest first.")
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.option("--dry-run", is_flag=True, help="Only say how many, and name the first five.")
@click.option("--wait", is_flag=True, help="For the outcome; exit 1 if one failed again.")
@click.option("--timeout", default="60s", show_default=True, help="How long --wait waits.")
@yes_option
@with_settings
@with_output
def replay(
    settings: Settings,
    out: Output,
    names: tuple[str, ...],
    filter_: str,
    first: int | None,
    reason: str,
    timeout: str,
    *,
    dry_run: bool,
    wait: bool,
    yes: bool,
) -> None:
    """Handle letters again, after whatever was wrong is right.

    \b
      outboxd dead replay d-7
      outboxd dead replay --filter 'handler:courier.book' --first 5 --wait
    """
    timeout_s = seconds(timeout)
    letters = _chosen(settings, names, filter_, first)
    if dry_run or not letters:
        _dry(out, letters, "replayed")
        return
    if len(letters) > 1:
        confirmed(f"Replay {counted(len(letters), 'letter')}?", yes=yes)
    asked = report(settings, out, operate.replay(settings.data, letters, reason=reason))
    if wait and any(request.state == "pending" for request in asked):
        raise exits.Stop(exits.FAILED)  # it was said that nothing is handled yet
    if wait:
        _wait(settings, out, letters, timeout_s)


@dead.command()
@click.argument("names", metavar="ID...", nargs=-1)
@filter_option(", ".join(LETTER_FIELDS))
@click.option("--first", type=click.IntRange(min=1), help="Only so many, the oldest first.")
@click.option("--reason", help="Why, for the audit trail; asked for if it is not given.")
@click.option("--dry-run", is_flag=True, help="Only say how many, and name the first five.")
@yes_option
@with_settings
@with_output
def discard(
    settings: Settings,
    out: Output,
    names: tuple[str, ...],
    filter_: str,
    first: int | None,
    reason: str | None,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Give letters up for good; a saga that is stuck on one unwinds."""
    letters = _chosen(settings, names, filter_, first)
    if dry_run or not letters:
        _dry(out, letters, "discarded")
        return
    said = reasoned(reason)
    confirmed(f"Discard {counted(len(letters), 'letter')} for good?", yes=yes)
    report(settings, out, operate.discard(settings.data, letters, reason=said))


@dead.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@filter_option(", ".join(LETTER_FIELDS))
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="A file, not stdout.")
@with_settings
@with_output
def export(
    settings: Settings, out: Output, names: tuple[str, ...], filter_: str, to: Path | None
) -> None:
    """Write letters as JSON, one a line, with message, error and attempts.

    Without a name or a filter, all that wait for a person. Nothing is changed.

    \b
      outboxd dead export | jq -r '.letter.error' | sort | uniq -c
      outboxd dead export --filter 'handler:courier.book' --to letters.jsonl
    """
    if names and filter_:
        raise ConfigError("name letters, or give --filter; not both")
    with Monitor(settings.data) as monitor:
        chosen = [monitor.find_letter(name) for name in names] or monitor.letter_numbers(
            parse(filter_, LETTER_FIELDS)
        )
        lines = (
            msgspec.json.encode(monitor.letter(f"{owner}/d-{n}")).decode() for owner, n in chosen
        )
        try:
            with click.open_file(str(to or "-"), "w", encoding="utf-8") as file:
                for line in lines:
                    click.echo(line, file=file)
        except BrokenPipeError:
            raise
        except OSError as err:
            raise ConfigError(f"cannot write {to}: {err.strerror}") from err
    out.say(f"{counted(len(chosen), 'letter')} exported")


def page(settings: Settings, out: Output, detail: LetterDetail) -> None:
    """A letter on one page."""
    now = utc(SystemClock().now())
    letter = detail.letter
    out.line(
        f"{out.painted(letter.name, bold=True)}  {out.state(letter.state)}  {letter.type}"
        f"  key {letter.key or '-'}"
    )
    out.line(f"at {letter.participant}, handler {letter.handler}, from {letter.sender}")
    died = f"{ago(letter.at, now)} ago, after {counted(letter.attempts, 'attempt')}"
    times = counted(letter.failed, "time")
    again = f"; died {times}, replayed {letter.replays}" if letter.replays else ""
    out.line(f"died {died}{again}")
    if letter.saga:
        out.line(f"a step of the saga {letter.saga}")
    if letter.reason:
        out.line(f"reason: {letter.reason}")
    out.heading("ERROR")
    traceback = detail.traceback.rstrip() or f"{letter.error_type}: {letter.error}"
    out.line(textwrap.indent(traceback, "  "))
    out.heading("MESSAGE")
    out.line(textwrap.indent(_message(detail), "  "))
    out.heading("ATTEMPTS")
    out.rows(detail.attempts, _attempt_columns(now), empty="  none is recorded")
    if detail.history:
        out.heading("HISTORY")
    for done in detail.history:
        why = f": {done.reason}" if done.reason else ""
        out.line(f"  {clock_time(done.at, now)}  {done.did} by {done.who}{why} ({done.id})")
    if detail.moves:
        out.heading("WHAT SETTLES IT")
        for command in detail.moves:
            out.line(f"  {with_data(command, settings)}")


def _message(detail: LetterDetail) -> str:
    if detail.text is not None:
        return detail.text
    attributes = {k: v for k, v in detail.envelope.items() if k != "specversion"}
    head = "\n".join(f"{name}: {value}" for name, value in attributes.items())
    data = msgspec.json.format(msgspec.json.encode(detail.data), indent=2).decode()
    return f"{head}\n{data}"


def _chosen(
    settings: Settings, names: tuple[str, ...], filter_: str, first: int | None
) -> list[Letter]:
    """The letters that are meant: named one by one, or by a filter, never all by saying nothing."""
    if bool(names) == bool(filter_):
        raise ConfigError(
            "name letters, or give --filter; not both" if names else "which letters?",
            hint="outboxd dead list shows them; --filter 'handler:payments.authorize' takes many",
        )
    with Monitor(settings.data) as monitor:
        if names:
            return [_unsettled(monitor, name) for name in names][:first]
        return monitor.letter_numbers(parse(filter_, LETTER_FIELDS))[:first]


def _unsettled(monitor: Monitor, name: str) -> Letter:
    """Raises Refused for a letter with which nothing can be done any more."""
    letter = monitor.letter(name).letter
    if letter.state not in ("dead", "replaying"):
        raise Refused(f"{letter.participant}/d-{letter.n} was {letter.state} already")
    return letter.participant, letter.n


def _groups(settings: Settings, out: Output, groups: list[LetterGroup], empty: str) -> None:
    if out.is_json:
        out.document(groups)
        return
    out.rows(groups, _group_columns(utc(SystemClock().now())), empty=empty)
    if groups and out.is_tty:
        command = f"outboxd dead replay --filter handler:{groups[0].handler} --first 5 --wait"
        out.say(f"next: {with_data(command, settings)}")


def _dry(out: Output, letters: list[Letter], verb: str) -> None:
    names = [f"{participant}/d-{n}" for participant, n in letters]
    if out.is_json:
        out.document({"letters": names})
        return
    out.say(
        f"{counted(len(letters), 'letter')} would be {verb}" if letters else "no letter matches"
    )
    for name in names[:_SAMPLE]:
        out.line(name)


def _wait(settings: Settings, out: Output, letters: list[Letter], timeout_s: float) -> None:
    """Until none of the letters is being replayed; ends with code 1 if one is dead again."""
    line = Standing()
    with Monitor(settings.data) as monitor:

        def ended() -> dict[str, int] | None:
            states = monitor.letter_states(letters)
            left = states.get("replaying", 0)
            line.show(f"{len(letters) - left:,} of {len(letters):,} settled")
            return None if left else states

        states = until(monitor, ended, timeout_s)
    line.end()
    if states is None:
        exits.say_error(f"not all are handled after {timeout_s:g} s; nothing is lost", None)
        raise exits.Stop(exits.FAILED)
    failed = states.get("dead", 0)
    out.say(f"{len(letters) - failed} handled, {failed} failed again")
    if failed:
        raise exits.Stop(exits.FAILED)


def _columns(rows: Sequence[LetterRow], now: datetime) -> list[Column[LetterRow]]:
    least = max(8, whole(row.key or "" for row in rows))
    return [
        Column(title="ID", text=lambda r: r.name, raw=lambda r: f"{r.participant}/d-{r.n}"),
        Column(title="MESSAGE", text=lambda r: r.type, least=12, drops=5),
        Column(title="KEY", text=lambda r: r.key or "-", least=least),
        Column(title="HANDLER", text=lambda r: r.handler, least=14, drops=3),
        Column(
            title="STATE",
            text=lambda r: stated(r.state),
            raw=lambda r: r.state,
            colour=lambda r: colour_of(r.state),
        ),
        Column(title="TRY", text=lambda r: str(r.attempts), align=">", drops=1),
        Column(title="FAILED", text=lambda r: str(r.failed), align=">", drops=2),
        Column(title="AGE", text=lambda r: ago(r.at, now), raw=lambda r: moment(r.at), align=">"),
        Column(title="ERROR", text=lambda r: f"{r.error_type}: {r.error}", least=12, drops=4),
    ]


def _attempt_columns(now: datetime) -> list[Column[Attempt]]:
    return [
        Column(title="#", text=lambda a: str(a.n), align=">"),
        Column(title="TIME", text=lambda a: clock_time(a.at, now), raw=lambda a: moment(a.at)),
        Column(
            title="TOOK",
            text=lambda a: in_words(a.took_s),
            raw=lambda a: f"{a.took_s:.3f}",
            align=">",
        ),
        Column(title="THEN", text=lambda a: a.outcome),
        Column(title="ERROR", text=lambda a: a.error, least=20),
    ]


def _group_columns(now: datetime) -> list[Column[LetterGroup]]:
    return [
        Column(title="LETTERS", text=lambda g: str(g.letters), align=">"),
        Column(title="HANDLER", text=lambda g: g.handler, least=14),
        Column(title="ERROR", text=lambda g: f"{g.error_type}: {g.error}", least=20),
        Column(
            title="FIRST",
            text=lambda g: ago(g.first_at, now),
            raw=lambda g: moment(g.first_at),
            align=">",
        ),
        Column(
            title="LAST",
            text=lambda g: ago(g.last_at, now),
            raw=lambda g: moment(g.last_at),
            align=">",
        ),
        Column(title="REPLAYED", text=lambda g: str(g.replays), align=">", drops=1),
    ]
