"""``outboxd message``: messages under way, where each is, and what is in it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime

import click
import msgspec

from outboxd.clock import SystemClock, utc
from outboxd.errors import NotFound
from outboxd.monitor import MESSAGE_FIELDS, LetterDetail, MessageDetail, MessageRow, Monitor, Why
from outboxd.monitor.filtering import parse
from outboxd.settings import Settings

from .groups import Group
from .options import filter_option, with_output, with_settings
from .output import Column, Output, ago, ahead, colour_of, counted, moment, stated, whole
from .why import page as why_page


@click.group(cls=Group)
def message() -> None:
    """Messages under way: list, show.

    A message that is handled leaves no row; what a saga did is in `outboxd saga show`.
    """


@message.command("list")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many."
)
@filter_option(", ".join(MESSAGE_FIELDS))
@with_settings
@with_output
def list_(settings: Settings, out: Output, limit: int, filter_: str) -> None:
    """Messages in outboxes and inboxes: what fails first, then the oldest.

    \b
      outboxd message list --filter state:retrying
      outboxd message list --filter 'type:AuthorizePayment key:10431' --json
    """
    with Monitor(settings.data) as monitor:
        rows = monitor.messages(parse(filter_, MESSAGE_FIELDS), limit)
    empty = "0 messages match." if filter_ else "Nothing is under way."
    if out.is_json:
        out.document(rows)
    else:
        out.rows(rows, _columns(rows, utc(SystemClock().now())), empty=empty)
    if len(rows) == limit:
        out.say(f"the first {counted(limit, 'message')} are shown; --limit N shows more")


@message.command()
@click.argument("message_id", metavar="ID")
@with_settings
@with_output
def show(settings: Settings, out: Output, message_id: str) -> None:
    """One message: where it is, what comes next, and what is in it.

    \b
      outboxd message show 'orders/fulfil/10431#2'
    """
    with Monitor(settings.data) as monitor:
        why = monitor.why(message_id)
        detail = _content(monitor, message_id, why)
    if out.is_json:
        out.document({"why": why, "message": detail})
        return
    why_page(settings, out, why)
    if detail is None:
        return
    out.heading("MESSAGE")
    if detail.text is not None:
        out.line(textwrap.indent(detail.text, "  "))
        return
    for name, value in detail.envelope.items():
        if name != "specversion":
            out.line(f"  {name}: {value}")
    data = msgspec.json.format(msgspec.json.encode(detail.data), indent=2).decode()
    out.line(textwrap.indent(data, "  "))


def _content(monitor: Monitor, message_id: str, why: Why) -> MessageDetail | LetterDetail | None:
    """What is in it, while it is under way or a dead letter."""
    if why.kind == "letter":
        return monitor.letter(message_id)
    try:
        return monitor.message(message_id)
    except NotFound:
        return None


def _columns(rows: Sequence[MessageRow], now: datetime) -> list[Column[MessageRow]]:
    least = max(12, whole(row.id for row in rows))
    return [
        Column(title="ID", text=lambda r: r.id, least=least, cut="start"),
        Column(title="TYPE", text=lambda r: r.type, least=12),
        Column(title="TO", text=lambda r: r.to, least=8, drops=3),
        Column(
            title="STATE",
            text=lambda r: stated(r.state),
            raw=lambda r: r.state,
            colour=lambda r: colour_of(r.state),
        ),
        Column(title="TRY", text=lambda r: str(r.tries or "-"), align=">", drops=1),
        Column(
            title="NEXT",
            text=lambda r: ahead(r.due_at, now),
            raw=lambda r: moment(r.due_at),
            align=">",
            drops=2,
        ),
        Column(title="AGE", text=lambda r: ago(r.at, now), raw=lambda r: moment(r.at), align=">"),
        Column(title="ERROR", text=lambda r: r.error or "-", least=12, drops=4),
    ]
