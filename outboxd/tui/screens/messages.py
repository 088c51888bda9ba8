"""Messages under way: in an outbox, delayed, or held in an inbox; the trouble first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult

from outboxd.errors import OutboxdError
from outboxd.monitor import MESSAGE_FIELDS, PAGE, MessageDetail, MessageRow, Monitor, Why
from outboxd.tui.look import Tones
from outboxd.tui.text import since, until
from outboxd.tui.widgets.lines import Pane, Rule
from outboxd.tui.widgets.rows import Col, Line, Rows

from .page import Page

COLUMNS = (
    Col(title="TYPE", width=18, flex=1, sort="type"),
    Col(title="KEY", width=12, flex=1, sort="key", cut="middle"),
    Col(title="STATE", width=11, sort="trouble"),
    Col(title="WHERE", width=22, flex=1),
    Col(title="TRY", width=3, align=">", drops=2),
    Col(title="NEXT", width=7, align=">", drops=3, sort="next"),
    Col(title="AGE", width=4, align=">", sort="age"),
    Col(title="ERROR", width=14, flex=3, drops=1),
)

_LOOKS = {
    "held": ("✗", "bad"),
    "retrying": ("↻", "warn"),
    "running": ("▸", "live"),
    "queued": ("◔", "dim"),
    "sending": ("→", "calm"),
    "delayed": ("◔", "dim"),
}

_NEVER = datetime.max.replace(tzinfo=UTC)

EMPTY = """No message is under way.
A handled message leaves no row; its saga's history has it (1), a failed one is a letter (2)."""


class Seen(msgspec.Struct, frozen=True):
    """What the screen shows."""

    rows: list[MessageRow]
    detail: MessageDetail | None
    why: Why | None


class MessagesPage(Page):
    """Screen 4."""

    name_ = "messages"
    hint = "type:Authorize  state:retrying  key:10431  participant:payments"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[MessageRow] = []
        self.detail: MessageDetail | None = None

    def body(self) -> ComposeResult:
        orders = ("trouble", "age", "next", "type", "key")
        yield Rows(COLUMNS, orders=orders, id="messages")
        yield Rule(id="message-title")
        yield Pane(id="message")

    def values(self) -> Mapping[str, Sequence[str]]:
        known = {
            "state": tuple(_LOOKS),
            "type": sorted({row.type for row in self.rows}),
            "key": sorted({row.key for row in self.rows if row.key}),
            "participant": sorted({row.participant for row in self.rows}),
        }
        return {field: known.get(field, ()) for field in MESSAGE_FIELDS}

    def look(self) -> Callable[[Monitor], Seen]:
        filter_, key = self.filter, self.query_one("#messages", Rows).key
        wanted = key.partition("\n")[0] if key is not None else None

        def read(monitor: Monitor) -> Seen:
            rows = monitor.messages(filter_, PAGE)
            ids = [row.id for row in rows]
            chosen = wanted if wanted in ids else next(iter(ids), None)
            return Seen(rows, *_of(monitor, chosen))

        return read

    def draw(self, seen: Seen) -> None:
        self.rows = seen.rows
        rows = self.query_one("#messages", Rows)
        rows.empty = "No message matches; esc clears the filter." if self.filter else EMPTY
        rows.put([_line(row, self.now) for row in _sorted(seen.rows, rows.order)])
        shown = len(seen.rows)
        said = f"the first {shown:,}" if shown == PAGE else f"{shown:,} under way"
        self.count(said, f"sort: {rows.order} ▾")
        self._draw_message(seen.detail, seen.why)

    def _draw_message(self, detail: MessageDetail | None, why: Why | None) -> None:
        self.detail = detail
        rule = self.query_one("#message-title", Rule)
        pane = self.query_one("#message", Pane)
        if detail is None:
            rule.put([("Message", "title")])
            pane.put(Text())
            return
        rule.put([("Message", "title"), (f"  {detail.id}", "dim")], [("o its saga", "dim")])
        pane.put(_told(detail, why, self.tones))

    @on(Rows.Moved, "#messages")
    def _moved(self, event: Rows.Moved) -> None:
        self._preview(event.key)

    @work(exclusive=True, group="preview")
    async def _preview(self, key: str | None) -> None:
        chosen = key.partition("\n")[0] if key is not None else None
        detail, why = await self.dash.reader.ask(lambda monitor: _of(monitor, chosen))
        self._draw_message(detail, why)

    # Keys.

    @on(Rows.Opened, "#messages")
    def _opened(self) -> None:
        self.query_one("#message", Pane).focus()

    def _row(self) -> MessageRow | None:
        key = self.query_one("#messages", Rows).key or ""
        return next((row for row in self.rows if row.id == key.partition("\n")[0]), None)

    def action_follow(self) -> None:
        row = self._row()
        if row is None or row.saga is None:
            self.dash.say("○ it belongs to no saga", "dim")
        else:
            self.dash.open_saga(row.saga)

    def action_log_of(self) -> None:
        row = self._row()
        if row is not None:
            self.dash.open_list("log", row.key or row.id)

    def action_export(self) -> None:
        self.write_out("messages", msgspec.to_builtins(self.rows))

    def action_copy(self) -> None:
        if self.detail is not None:
            self.to_clipboard(_told(self.detail, None, self.tones).plain)


def _of(monitor: Monitor, message_id: str | None) -> tuple[MessageDetail | None, Why | None]:
    """What is known of a message; it may be gone by now."""
    if message_id is None:
        return None, None
    try:
        detail = monitor.message(message_id)
    except OutboxdError:
        return None, None
    try:
        return detail, monitor.why(message_id)
    except OutboxdError:
        return detail, None


def _told(detail: MessageDetail, why: Why | None, tones: Tones) -> Text:
    found = Text()
    for sentence in why.waits_for if why is not None else ():
        found.append("waits  ", tones["head"])
        found.append(f"{sentence}\n")
    if detail.text is not None:
        found.append(detail.text)
        return found
    body = msgspec.json.format(msgspec.json.encode(detail.data), indent=2).decode()
    found.append("payload\n", tones["head"])
    found.append(f"{body}\n")
    found.append("headers\n", tones["head"])
    for name, value in detail.envelope.items():
        if name != "specversion" and value is not None:
            found.append(f"  {name:<16} ", tones["dim"])
            found.append(f"{value}\n")
    return found


def _sorted(rows: Sequence[MessageRow], order: str) -> list[MessageRow]:
    match order:
        case "age":
            return sorted(rows, key=lambda row: row.at or _NEVER)
        case "next":
            return sorted(rows, key=lambda row: row.due_at or _NEVER)
        case "type":
            return sorted(rows, key=lambda row: row.type)
        case "key":
            return sorted(rows, key=lambda row: row.key or "")
        case _:
            return list(rows)


def _line(row: MessageRow, now: datetime) -> Line:
    glyph, tone = _LOOKS[row.state]
    where = f"{row.sender} → {row.to}"
    if row.state in ("held", "retrying", "running", "queued"):
        where = f"at {row.to}, from {row.sender}"
    return Line(
        f"{row.id}\n{row.participant} {row.state}",
        (
            (row.type, ""),
            (row.key or "-", ""),
            (f"{glyph} {row.state}", tone),
            (where, "dim"),
            (str(row.tries) if row.tries else "-", "warn" if row.tries > 1 else "dim"),
            (until(row.due_at, now), "dim"),
            (since(row.at, now), "dim"),
            (row.error or "-", "warn" if row.error else "dim"),
        ),
    )
