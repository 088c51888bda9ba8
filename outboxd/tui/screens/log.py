"""What operators asked for and what became of it, and the end of the daemon's log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from rich.text import Text
from textual import on
from textual.app import ComposeResult

from outboxd.clock import utc
from outboxd.monitor import LogLine, Monitor
from outboxd.store.control import Request
from outboxd.tui.text import glyph_of, since, tone_of
from outboxd.tui.widgets.lines import Pane, Rule
from outboxd.tui.widgets.rows import Col, Line, Rows

from .page import Page

OPERATIONS = (
    Col(title="OPERATION", width=12),
    Col(title="WHAT", width=13),
    Col(title="TARGET", width=20, flex=2),
    Col(title="STATE", width=9),
    Col(title="AGE", width=4, align=">"),
    Col(title="WHO", width=10, drops=2),
    Col(title="REASON · RESULT", width=18, flex=3, drops=1),
)

LOG = (
    Col(title="TIME", width=19, drops=1),
    Col(title="LEVEL", width=7),
    Col(title="×", width=3, align=">", drops=2),
    Col(title="WHAT WAS LOGGED", width=40, flex=1),
)

_LEVELS = {"ERROR": "bad", "CRITICAL": "bad", "WARNING": "warn", "INFO": "dim", "DEBUG": "dim"}

LINES = 500
OPERATIONS_SHOWN = 50


class Seen(msgspec.Struct, frozen=True):
    """What the screen shows."""

    requests: list[Request]
    log: list[LogLine]


class LogPage(Page):
    """Screen 5."""

    name_ = "log"
    hint = "words that a line must have: payments order-10431 warning"

    def __init__(self) -> None:
        super().__init__()
        self.log_lines: list[LogLine] = []

    def body(self) -> ComposeResult:
        yield Rule(id="operations-title")
        yield Rows(OPERATIONS, id="operations")
        yield Rule(id="log-title")
        yield Rows(LOG, id="log")
        yield Pane(id="line")

    def values(self) -> Mapping[str, Sequence[str]]:
        return {}

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#operations-title", Rule).put([("What operators asked for", "title")])
        self.query_one("#log-title", Rule).put(
            [("Log", "title"), ("  the latest first", "dim")], [("enter: the whole line", "dim")]
        )
        self.query_one("#line").display = False
        self.query_one("#log", Rows).focus()

    def look(self) -> Callable[[Monitor], Seen]:
        words = self.filter

        def read(monitor: Monitor) -> Seen:
            requests = [r for r in monitor.requests(OPERATIONS_SHOWN * 4) if r.kind != "send"]
            return Seen(requests[:OPERATIONS_SHOWN], monitor.log(words, LINES))

        return read

    def draw(self, seen: Seen) -> None:
        self.log_lines = seen.log
        operations, log = self.query_one("#operations", Rows), self.query_one("#log", Rows)
        operations.empty = "Nobody has replayed, discarded, cancelled or retried anything yet."
        most = max(2, (self.size.height - 10) // 3)
        operations.styles.height = 1 + (min(most, len(seen.requests)) or 3)
        operations.put([_operation(request, self.now) for request in seen.requests])
        log.empty = (
            "No line matches; esc clears the filter." if self.filter else "Nothing is logged."
        )
        log.put([_line(line) for line in seen.log])
        self.count(f"{len(seen.log):,} lines")

    @on(Rows.Opened, "#log")
    def _opened(self) -> None:
        pane = self.query_one("#line", Pane)
        pane.display = not pane.display
        self.set_class(pane.display, "-reading")
        self._show_line()

    @on(Rows.Moved, "#log")
    def _moved(self) -> None:
        self._show_line()

    def _show_line(self) -> None:
        line = self._current()
        if line is not None:
            text = Text()
            text.append(f"{line.at} {line.level}\n", self.tones["head"])
            text.append(f"{line.text}\n{line.more}")
            self.query_one("#line", Pane).put(text)

    def _current(self) -> LogLine | None:
        key = self.query_one("#log", Rows).key
        return next((line for line in self.log_lines if str(line.n) == key), None)

    def action_copy(self) -> None:
        line = self._current()
        if line is not None:
            self.to_clipboard(f"{line.at} {line.level} {line.text}\n{line.more}".strip())

    def action_export(self) -> None:
        self.write_out("log", msgspec.to_builtins(self.log_lines))


def _operation(request: Request, now: datetime) -> Line:
    why = " · ".join(text for text in (request.reason, request.result) if text)
    return Line(
        request.id,
        (
            (request.id, ""),
            (request.kind, "dim"),
            (request.target, ""),
            (f"{glyph_of(request.state)} {request.state}", tone_of(request.state)),
            (since(utc(request.at), now), "dim"),
            (request.who, "dim"),
            (why or "-", "bad" if request.state == "refused" else "dim"),
        ),
    )


def _line(line: LogLine) -> Line:
    tone = _LEVELS.get(line.level, "")
    return Line(
        str(line.n),
        (
            (line.at, "dim"),
            (line.level.lower(), tone),
            (f"{line.times}×" if line.times > 1 else "", "warn"),
            (line.text, "" if tone == "dim" else tone),
        ),
    )
