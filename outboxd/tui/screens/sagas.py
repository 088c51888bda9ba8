"""The list of sagas, trouble first, with a preview of the one under the cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical

from outboxd.errors import NotFound, OutboxdError
from outboxd.monitor import PAGE, SAGA_FIELDS, Monitor, SagaDetail, SagaPage, SagaRow
from outboxd.tui.text import glyph_of, since, tone_of, until
from outboxd.tui.widgets.lines import Pane, Rule
from outboxd.tui.widgets.rows import Col, Line, Rows
from outboxd.tui.widgets.steps import summary

from . import acting, acting_many
from .page import Page

COLUMNS = (
    Col(title="KEY", width=13, flex=1, sort="key", cut="middle"),
    Col(title="SAGA", width=15, drops=1),
    Col(title="STATE", width=14, sort="trouble"),
    Col(title="STEP", width=17, flex=1, sort="step"),
    Col(title="TRY", width=3, align=">", drops=3),
    Col(title="NEXT", width=7, align=">", sort="next"),
    Col(title="AGE", width=4, align=">", drops=2, sort="age"),
    Col(title="LAST ERROR", width=13, flex=4, sort="error"),
)

ORDERS = ("trouble", "age", "next", "key", "step", "error")

EMPTY = """No saga has started.
Send one:  outboxd send TYPE '{"field": "value"}'
or start outboxd with a feed:  outboxd run --feed orders.jsonl"""


class Seen(msgspec.Struct, frozen=True):
    """What the screen shows."""

    page: SagaPage
    detail: SagaDetail | None


class SagasPage(Page):
    """Screen 1."""

    name_ = "sagas"
    hint = "state:stuck  type:fulfil  key:10431  age:>5m  !word"

    def __init__(self) -> None:
        super().__init__()
        self.page: SagaPage | None = None
        self.detail: SagaDetail | None = None
        self._shown = ""

    def body(self) -> ComposeResult:
        with Container(id="split"):
            yield Rows(COLUMNS, orders=ORDERS, can_mark=True, id="sagas")
            with Vertical(id="preview"):
                yield Rule(id="which")
                yield Pane(id="steps")

    def values(self) -> Mapping[str, Sequence[str]]:
        rows = self.page.rows if self.page is not None else ()
        known = {
            "state": ("stuck", "compensating", "retrying", "overdue", "running", "waiting",
                      "completed", "compensated", "cancelled", "open", "ended"),
            "type": sorted({row.type for row in rows}),
            "key": sorted({row.key for row in rows}),
            "step": sorted({row.step for row in rows if row.step}),
            "participant": sorted({row.participant for row in rows}),
            "error": sorted({row.error.split(":")[0] for row in rows if row.error}),
        }  # fmt: skip
        return {field: known.get(field, ()) for field in SAGA_FIELDS}

    # Reading and drawing.

    def look(self) -> Callable[[Monitor], Seen]:
        filter_, has_preview = self.filter, self._has_preview
        key = self.query_one("#sagas", Rows).key

        def read(monitor: Monitor) -> Seen:
            page = monitor.sagas(filter_, PAGE)
            ids = [row.id for row in page.rows]
            shown = key if key in ids else next(iter(ids), None)
            return Seen(page, _detail(monitor, shown) if has_preview else None)

        return read

    @property
    def _has_preview(self) -> bool:
        return bool(self.query_one("#preview").display)

    def draw(self, seen: Seen) -> None:
        self.page = seen.page
        rows = self.query_one("#sagas", Rows)
        rows.empty = EMPTY
        if seen.page.total:
            rows.empty = f"None of {seen.page.total:,} sagas matches; esc clears the filter."
        rows.put([_line(row, self.now) for row in _sorted(seen.page.rows, rows.order)])
        shown = f"{len(seen.page.rows):,} of {seen.page.matching:,} shown"
        if len(seen.page.rows) == seen.page.matching:
            shown = f"{seen.page.matching:,} of {seen.page.total:,} sagas"
        self._shown = shown
        self._draw_counts()
        self._draw_preview(seen.detail)

    def _draw_counts(self) -> None:
        rows = self.query_one("#sagas", Rows)
        marked = f"{len(rows.marks):,} marked   " if rows.marks else ""
        self.count(self._shown, f"{marked}sort: {rows.order} ▾")

    @on(Rows.Marked)
    def _marked(self) -> None:
        self._draw_counts()

    def _draw_preview(self, detail: SagaDetail | None) -> None:
        self.detail = detail
        which, pane = self.query_one("#which", Rule), self.query_one("#steps", Pane)
        if detail is None:
            which.put([("", "")])
            pane.put(Text())
            return
        saga = detail.saga
        which.put(
            [(saga.key, "title"), (f"  {saga.participant}.{saga.type}  ", "dim"),
             (f"{glyph_of(saga.state)} {saga.state}", tone_of(saga.state))],
            [("enter opens", "dim", "screen.open")],
        )  # fmt: skip
        pane.put(summary(detail, self.now, self.tones, max(40, pane.size.width - 1)))

    @on(Rows.Moved, "#sagas")
    def _moved(self, event: Rows.Moved) -> None:
        if self._has_preview:
            self._preview(event.key)

    @work(exclusive=True, group="preview")
    async def _preview(self, key: str | None) -> None:
        detail = await self.dash.reader.ask(lambda monitor: _detail(monitor, key))
        self._draw_preview(detail)

    # Keys.

    @on(Rows.Opened, "#sagas")
    def _opened(self, event: Rows.Opened) -> None:
        self.dash.open_saga(event.key)

    def action_retry(self) -> None:
        self._with_detail(lambda detail: acting.retry(self, detail))

    def action_cancel(self) -> None:
        marked = self._marked_rows()
        if marked:
            acting_many.cancel(self, marked)
        else:
            self._with_detail(lambda detail: acting.cancel(self, detail))

    def action_retry_many(self) -> None:
        page = self.page
        if page is not None:
            acting_many.retry(self, self._marked_rows(), page)

    def _marked_rows(self) -> list[SagaRow]:
        marks = self.query_one("#sagas", Rows).marks
        return [row for row in self.page.rows if row.id in marks] if self.page is not None else []

    def action_follow(self) -> None:
        self._with_detail(lambda detail: follow_letter(self, detail))

    def action_log_of(self) -> None:
        key = self.query_one("#sagas", Rows).key
        if key is not None:
            self.dash.open_list("log", key.rpartition("/")[2])

    def action_copy(self) -> None:
        key = self.query_one("#sagas", Rows).key
        if key is not None:
            self.to_clipboard(key)

    def action_export(self) -> None:
        if self.page is not None:
            self.write_out("sagas", msgspec.to_builtins(self.page.rows))

    @work(group="acting")
    async def _with_detail(self, act: object) -> None:
        key = self.query_one("#sagas", Rows).key
        detail = await self.dash.reader.ask(lambda monitor: _detail(monitor, key))
        if detail is not None and callable(act):
            act(detail)


def follow_letter(page: Page, detail: SagaDetail) -> None:
    """The dead letter that holds a saga."""
    found = acting.letter_of(detail)
    if found is None:
        page.dash.say(f"○ no dead letter holds {detail.saga.key}", "dim")
    else:
        page.dash.open_letter(found)


def _detail(monitor: Monitor, key: str | None) -> SagaDetail | None:
    if key is None:
        return None
    try:
        return monitor.saga(key)
    except (NotFound, OutboxdError):
        return None


def _sorted(rows: Sequence[SagaRow], order: str) -> list[SagaRow]:
    late = datetime.max
    match order:
        case "age":
            return sorted(rows, key=lambda row: row.started_at)
        case "next":
            return sorted(rows, key=lambda r: r.next_at.replace(tzinfo=None) if r.next_at else late)
        case "key":
            return sorted(rows, key=lambda row: row.key)
        case "step":
            return sorted(rows, key=lambda row: row.step or "~")
        case "error":
            return sorted(rows, key=lambda row: (row.error is None, row.error or ""))
        case _:
            return list(rows)


def _line(row: SagaRow, now: datetime) -> Line:
    tone = tone_of(row.state)
    is_over = row.ended_at is not None
    next_ = "-" if is_over else until(row.next_at, now)
    return Line(
        row.id,
        (
            (row.key, "dim" if is_over else ""),
            (f"{row.participant}.{row.type}", "dim"),
            (f"{glyph_of(row.state)} {row.state}", tone),
            (row.step or "-", "dim" if is_over or not row.step else ""),
            (str(row.tries) if row.tries else "-", "warn" if row.tries > 1 else "dim"),
            (next_, "warn" if next_.startswith("-") and next_ != "-" else "dim"),
            (since(row.started_at, now), "dim"),
            (row.error or "-", ("bad" if row.state == "stuck" else "") if row.error else "dim"),
        ),
    )
