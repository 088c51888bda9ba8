"""All keys of a screen, searchable; enter runs the one under the cursor."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from outboxd.tui.widgets.lines import Rule
from outboxd.tui.widgets.rows import Col, Line, Rows

from .page import Page

COLUMNS = (
    Col(title="KEY", width=9),
    Col(title="DOES", width=40, flex=1),
)

_MOVING = (
    ("j k ↓ ↑", "Move the cursor"),
    ("g G", "First, last"),
    ("pgup pgdn", "A page up, down"),
)


class HelpScreen(ModalScreen[str | None]):
    """Type to search, enter to run, esc to leave."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("ctrl+c", "leave", "Leave", priority=True),
        Binding("down", "move(1)", "Down", priority=True),
        Binding("up", "move(-1)", "Up", priority=True),
        Binding("pagedown", "move(8)", "Down", priority=True),
        Binding("pageup", "move(-8)", "Up", priority=True),
        Binding("enter", "run", "Run", priority=True),
    ]

    def __init__(self, page: Page) -> None:
        super().__init__()
        app = page.dash
        self._keys = app.keys_of(page.name_)
        self._is_read_only = app.read_only

    def compose(self) -> ComposeResult:
        with Vertical(id="help"):
            yield Rule(id="title")
            yield Input(placeholder="search", id="search", compact=True)
            yield Rows(COLUMNS, id="keys")
            yield Static(id="about")

    def on_mount(self) -> None:
        more = "read-only: nothing here changes anything" if self._is_read_only else (
            "lower case is safe, UPPER CASE changes something for good"
        )  # fmt: skip
        self.query_one("#title", Rule).put([("Keys", "title")], [(more, "dim")])
        self.query_one(Input).cursor_blink = False
        self._fill("")

    @on(Input.Changed)
    def _searched(self, event: Input.Changed) -> None:
        self._fill(event.value)

    def _fill(self, text: str) -> None:
        words = text.lower().split()
        lines = [
            Line(key.id, ((key.shown, "key"), (key.text, "warn" if key.changes else "")))
            for key in self._keys
            if all(word in f"{key.shown} {key.label} {key.text}".lower() for word in words)
        ]
        if not words:
            lines += [Line(f"move {k}", ((k, "key"), (does, "dim"))) for k, does in _MOVING]
        rows = self.query_one("#keys", Rows)
        rows.empty = "No key does that."
        rows.put(lines)
        self._moved()

    @on(Rows.Moved, "#keys")
    def _moved(self) -> None:
        rows = self.query_one("#keys", Rows)
        text = rows.lines[rows.at].cells[1][0] if rows.lines else ""
        self.query_one("#about", Static).update(text)

    def action_move(self, by: int) -> None:
        self.query_one("#keys", Rows).action_move(by)

    @on(Rows.Opened)
    def action_run(self) -> None:
        chosen = self.query_one("#keys", Rows).key
        key = next((key for key in self._keys if key.id == chosen), None)
        self.dismiss(None if key is None or key.id == "help" else key.action)

    def action_leave(self) -> None:
        self.dismiss(None)
