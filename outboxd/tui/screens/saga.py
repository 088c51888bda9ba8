"""One saga, all of it: steps on a time line, history, payloads, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal

from outboxd.clock import in_words
from outboxd.monitor import HistoryRow, Monitor, SagaDetail
from outboxd.tui.look import Tones
from outboxd.tui.text import ago, glyph_of, tone_of
from outboxd.tui.widgets.lines import Pane, Part, Rule, titled
from outboxd.tui.widgets.rows import Col, Line, Rows
from outboxd.tui.widgets.steps import height, span_of, table
from outboxd.words import clock_time

from . import acting
from .page import Page
from .sagas import follow_letter

HISTORY = (
    Col(title="TIME", width=12),
    Col(title="+", width=7, align=">", drops=2),
    Col(title="WHAT", width=14),
    Col(title="STEP", width=18, flex=1),
    Col(title="RESULT", width=20, flex=3, drops=1),
)

_LOOKS = {
    "start": ("◂ started", "live"),
    "call": ("▸ asked", "live"),
    "ok": ("✓ answered", "good"),
    "run": ("● done here", "good"),
    "rejected": ("✗ rejected", "warn"),
    "timed_out": ("✗ timed out", "warn"),
    "failed": ("✗ failed", "bad"),
    "cancelled": ("✗ cancelled", "warn"),
    "sent": ("▸ sent", "live"),
    "published": ("▸ published", "live"),
    "started": ("▸ child started", "live"),
    "join": ("▸ child awaited", "live"),
    "sleep": ("◔ sleeps", "dim"),
    "woke": ("● woke", "dim"),
    "until": ("◔ sleeps", "dim"),
    "receive": ("◔ message awaited", "live"),
    "received": ("● message came", "good"),
    "dropped": ("○ no more awaited", "dim"),
    "kept": ("○ came early", "dim"),
    "surplus": ("○ one too many", "dim"),
    "undo_sent": ("↶ undo asked", "undo"),
    "undo_done": ("✓ undone", "calm"),
    "undo_skipped": ("✓ undo skipped", "calm"),
    "skipped": ("✓ by hand", "calm"),
    "resolved": ("● resolved", "title"),
    "closed": ("○ closed", "dim"),
    "repeated": ("↻ repeated", "warn"),
    "stuck": ("✗ stuck", "bad"),
    "resumed": ("▸ resumed", "live"),
    "late": ("○ came late", "dim"),
    "ended": ("● ended", "title"),
}

_EMPTY = {
    "all": "Nothing has happened yet.",
    "failures": "Nothing failed.",
    "pending": "Nothing is pending: every step is answered.",
}

_FAILURES = {"rejected", "timed_out", "failed", "cancelled", "stuck", "repeated", "undo_sent"}


class SagaPage(Page):
    """One saga; esc returns to the row it came from."""

    name_ = "saga"
    hint = "a text in the history, the payloads or the reasons"
    finds = True

    def __init__(self, saga_id: str) -> None:
        super().__init__()
        self.saga_id = saga_id
        self.detail: SagaDetail | None = None
        self.shown = "all"
        self._is_new = True

    def body(self) -> ComposeResult:
        yield Rule(id="steps-title")
        yield Pane(id="steps")
        yield Rule(id="history-title")
        yield Rows(HISTORY, follows=True, id="history")
        yield Rule(id="below-title")
        with Horizontal(id="below"):
            yield Pane(id="payload")
            yield Pane(id="waits")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#history", Rows).focus()

    def crumbs(self) -> tuple[list[Part], list[Part]]:
        parts: list[Part] = [(" ‹ Sagas", "key", "screen.back"), (" › ", "dim")]
        if self.detail is None:
            return [*parts, (self.saga_id, "title")], []
        saga, now = self.detail.saga, self.now
        parts += [
            (saga.key, "title"),
            (f"  {saga.participant}.{saga.type} v{self.detail.version}  ", "dim"),
            (f"{glyph_of(saga.state)} {saga.state}", tone_of(saga.state)),
        ]
        if saga.ended_at is None:
            when = f"started {ago(saga.started_at, now)}"
        else:
            took = in_words((saga.ended_at - saga.started_at).total_seconds())
            when = f"took {took}, ended {ago(saga.ended_at, now)}"
        if self.detail.is_forward_only and saga.ended_at is None:
            parts.append(("  past its point of no return", "warn"))
        return parts, [(f"{when} ", "dim")]

    # Reading and drawing.

    def look(self) -> Callable[[Monitor], SagaDetail]:
        return lambda monitor: monitor.saga(self.saga_id)

    def draw(self, seen: SagaDetail) -> None:
        self.detail = seen
        steps = self.query_one("#steps", Pane)
        lines = height(seen)
        most = max(4, (self.size.height - 10) // 3)
        steps.styles.height = min(lines, most)
        lines_of_steps = table(seen, self.now, self.tones, self.size.width - 1)
        lines_of_steps.rstrip()
        steps.put(lines_of_steps)
        is_over = seen.saga.ended_at is not None
        span = in_words(span_of(seen, self.now))
        self.query_one("#steps-title", Rule).put(
            [("Steps", "title")], [(f"{'took' if is_over else 'now'} {span}", "dim")]
        )
        self._draw_history(seen)
        if self._is_new and seen.history:
            self._is_new = False
            self.query_one("#history", Rows).action_jump(-1)
            steps.scroll_end(animate=False)
        self._draw_below()

    def _draw_history(self, seen: SagaDetail) -> None:
        rows = self.query_one("#history", Rows)
        rows.empty = _EMPTY[self.shown]
        if self.shown == "pending":
            lines = list(_pending(seen, self.now))
        else:
            shown = [r for r in seen.history if self.shown == "all" or r.kind in _FAILURES]
            lines = [_line(row, self.now) for row in shown]
        rows.put(lines)
        right = f"{len(lines)} of {len(seen.history)} events"
        if self.shown == "pending":
            right = f"{len(lines)} pending"
        elif seen.saga.ended_at is None and rows.at == len(lines) - 1:
            right += ", following the last"
        self.query_one("#history-title", Rule).put(
            [("History", "title"), *_choice("a", "all", self.shown == "all"),
             *_choice("x", "failures", self.shown == "failures"),
             *_choice("p", "pending", self.shown == "pending")],
            [(right, "dim")],
        )  # fmt: skip

    def _draw_below(self) -> None:
        detail = self.detail
        if detail is None:
            return
        row = self._row()
        title: list[Part] = [("Payload", "title")]
        if row is not None:
            title.append((f" of {row.name or row.kind}", "dim"))
        self.query_one("#below-title", Rule).put(title, [("y copies", "dim", "screen.copy")])
        self.query_one("#payload", Pane).put(_payload(detail, row, self.tones))
        self.query_one("#waits", Pane).put(_waits(detail, self.tones))

    def _row(self) -> HistoryRow | None:
        key = self.query_one("#history", Rows).key
        rows = self.detail.history if self.detail is not None else ()
        return next((row for row in rows if str(row.n) == key), None)

    @on(Rows.Moved, "#history")
    def _moved(self) -> None:
        if self.detail is not None:
            self._draw_history(self.detail)
        self._draw_below()

    # Keys.

    def action_show(self, what: str) -> None:
        self.shown = what
        self.dash.wake()

    def action_retry(self) -> None:
        if self.detail is not None:
            acting.retry(self, self.detail)

    def action_cancel(self) -> None:
        if self.detail is not None:
            acting.cancel(self, self.detail)

    def action_skip(self) -> None:
        if self.detail is not None:
            acting.skip(self, self.detail)

    def action_resolve(self) -> None:
        if self.detail is not None:
            acting.resolve(self, self.detail)

    def action_kill(self) -> None:
        if self.detail is not None:
            acting.kill(self, self.detail)

    def action_follow(self) -> None:
        if self.detail is not None:
            follow_letter(self, self.detail)

    def action_log_of(self) -> None:
        self.dash.open_list("log", self.saga_id.rpartition("/")[2])

    def action_copy(self) -> None:
        row = self._row()
        data = row.data if row is not None else None
        self.to_clipboard(self.saga_id if data is None else bytes(data).decode(errors="replace"))

    def action_export(self) -> None:
        if self.detail is not None:
            self.write_out(f"saga-{self.detail.saga.key}", msgspec.to_builtins(self.detail))


def _choice(key: str, label: str, is_on: bool) -> list[Part]:
    tone = "title" if is_on else "dim"
    action = f"screen.show('{label}')"
    return [("   ", ""), (key, "key", action), (f" {label}", tone, action)]


def _line(row: HistoryRow, now: datetime) -> Line:
    label, tone = _LOOKS.get(row.kind, (f"● {row.kind.replace('_', ' ')}", ""))
    return Line(
        str(row.n),
        (
            (clock_time(row.at, now)[-12:], "dim"),
            (f"{row.since_s:.3f}", "dim"),
            (label, tone),
            (row.name or "-", ""),
            (row.text or "-", tone if row.kind in _FAILURES and row.text else "dim"),
        ),
    )


def _pending(detail: SagaDetail, now: datetime) -> Iterable[Line]:
    """What is not yet answered, since when, and by whom it will be."""
    for step in (*detail.steps, *detail.undos):
        if step.ended_at is None and detail.saga.ended_at is None:
            at_whom = f"{step.state}, at {step.to}" if step.to else step.state
            tries = f", failed {step.failed_tries} times" if step.failed_tries else ""
            is_undo = step.kind == "undo"
            yield Line(
                f"pending {step.kind} {step.pos}",
                (
                    (clock_time(step.started_at, now)[-12:], "dim"),
                    ("", ""),
                    ("↶ undo pending" if is_undo else "◔ pending", "undo" if is_undo else "warn"),
                    (step.name, ""),
                    (f"{at_whom}{tries}, for {in_words(_age(step.started_at, now))}", "dim"),
                ),
            )


def _age(at: datetime, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds())


def _payload(detail: SagaDetail, row: HistoryRow | None, tones: Tones) -> Text:
    found = Text()
    if row is not None and row.data is not None and bytes(row.data) != b"null":
        found.append_text(_json(row.data))
        found.append("\n")
    if detail.start is not None:
        found.append("the saga was started by\n", tones["head"])
        found.append_text(_json(detail.start))
    return found


def _json(raw: msgspec.Raw) -> Text:
    try:
        value: Any = msgspec.json.decode(raw)
        text = msgspec.json.format(msgspec.json.encode(_opened(value)), indent=2).decode()
    except msgspec.DecodeError:
        text = bytes(raw).decode(errors="replace")
    return Text(f"{text}\n")


def _opened(value: Any) -> Any:
    """Of an envelope what a person asks for first: its data."""
    if isinstance(value, dict) and "specversion" in value:
        return {"type": value.get("type"), "id": value.get("id"), "data": value.get("data")}
    return value


def _waits(detail: SagaDetail, tones: Tones) -> Text:
    found = Text()
    is_stuck = detail.saga.state == "stuck"
    for sentence in detail.waits_for:
        found.append_text(titled(tones, "waits", sentence, "warn" if is_stuck else ""))
    if detail.reason:
        found.append_text(titled(tones, "why it unwinds", detail.reason))
    if detail.stuck in ("bug", "code changed") and detail.detail:
        found.append_text(titled(tones, "error", detail.detail, "bad"))
    if detail.result is not None:
        found.append("returned\n", tones["head"])
        found.append_text(_json(detail.result))
    for line in _moves(detail):
        found.append_text(line)
    for operation in detail.operations:
        why = f": {operation.reason}" if operation.reason else ""
        found.append_text(titled(tones, "operator", f"{operation.did} by {operation.who}{why}"))
    if not found:
        found.append(f"it is {detail.saga.state} and waits for nothing\n", tones["dim"])
    return found


def _moves(detail: SagaDetail) -> Iterable[Text]:
    if detail.moves:
        yield Text("what would move it\n", style="bold")
    for move in detail.moves:
        yield Text(f"  {move}\n", style="dim")
