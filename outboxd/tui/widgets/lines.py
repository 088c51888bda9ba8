"""Single lines and texts: bars, rules with a title, and panes that scroll."""

from __future__ import annotations

from typing import Any, cast

from rich.style import Style
from rich.text import Text
from textual.app import RenderResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from outboxd.tui.look import Tones
from outboxd.tui.text import fitted

Part = tuple[str, str] | tuple[str, str, str]
"""Text, its tone, and the action of a click on it."""


def tones_of(widget: Widget) -> Tones:
    """The tones of the theme in force."""
    return cast(Any, widget.app).tones  # type: ignore[no-any-return]


def drawn(tones: Tones, parts: tuple[Part, ...] | list[Part]) -> Text:
    """Parts as one text."""
    text = Text(no_wrap=True, end="")
    for part in parts:
        style = tones[part[1]]
        if len(part) == 3:
            style = style + Style(meta={"@click": part[2]})
        text.append(part[0], style)
    return text


class Bar(Widget):
    """One line: parts on the left, and if there is room parts on the right."""

    DEFAULT_CSS = """
    Bar { height: 1; }
    """

    auto_links = False  # a click does what it says; it need not look like a link
    left: tuple[Part, ...] = ()
    right: tuple[Part, ...] = ()

    def put(self, left: list[Part], right: list[Part] | None = None) -> None:
        """What to show; draws only what is new."""
        shown = (tuple(left), tuple(right or ()))
        if shown != (self.left, self.right):
            self.left, self.right = shown
            self.refresh()

    def render(self) -> RenderResult:
        tones, width = tones_of(self), self.size.width
        left, right = drawn(tones, self.left), drawn(tones, self.right)
        if right.cell_len and left.cell_len + right.cell_len + 1 > width:
            left.truncate(max(0, width - right.cell_len - 1), overflow="ellipsis")
        gap = width - left.cell_len - right.cell_len
        left.append(" " * max(0, gap))
        left.append_text(right)
        left.truncate(width)
        return left


class Rule(Bar):
    """``── Steps ───────── now 117s ──``."""

    def render(self) -> RenderResult:
        tones, width = tones_of(self), self.size.width
        line = tones["rule"]
        text = Text("", no_wrap=True, end="")
        text.append("── ", line)
        text.append_text(drawn(tones, self.left))
        right = drawn(tones, self.right)
        room = width - (right.cell_len + 4 if right.cell_len else 0) - 1
        text.truncate(max(0, room), overflow="ellipsis")
        tail = width - text.cell_len - 1 - (right.cell_len + 4 if right.cell_len else 0)
        text.append(" " + "─" * max(0, tail), line)
        if right.cell_len:
            text.append(" ")
            text.append_text(right)
            text.append(" ──", line)
        text.truncate(width)
        return text


class Pane(VerticalScroll):
    """A text that may be longer than its place."""

    can_focus = True
    shown: Text | None = None
    sought = ""
    at = 0

    DEFAULT_CSS = """
    Pane { height: 1fr; scrollbar-size-vertical: 1; }
    Pane > Static { width: 1fr; height: auto; }
    """

    def compose(self) -> Any:
        yield Static("")

    def put(self, text: Text) -> None:
        """What to show; keeps where one has scrolled to, unless it is another text."""
        if self.shown is not None and text == self.shown and text.spans == self.shown.spans:
            return
        self.shown = text
        self._draw()

    def mark(self, sought: str) -> int:
        """Marks each place of a text, from now on; returns how many there are."""
        if sought != self.sought:
            self.sought, self.at = sought, 0
            self._draw()
        return len(self._places())

    def seek(self, by: int) -> None:
        """Scrolls to the next place of what is sought, or the previous one, around the ends."""
        places = self._places()
        if places and self.shown is not None:
            self.at = (self.at + by) % len(places)
            self._draw()
            above = self.shown[: places[self.at]]
            width = max(1, self.query_one(Static).size.width)
            y = len(above.wrap(self.app.console, width)) - 1
            self.scroll_to(y=max(0, y - self.size.height // 2), animate=False)

    def _places(self) -> list[int]:
        if self.shown is None or not self.sought:
            return []
        text, sought = self.shown.plain.lower(), self.sought.lower()
        return [n for n in range(len(text)) if text.startswith(sought, n)]

    def _draw(self) -> None:
        text = self.shown or Text()
        places = self._places()
        if places:
            text = text.copy()
            for n, place in enumerate(places):
                here = Style(reverse=True, bold=n == self.at % len(places))
                text.stylize(here, place, place + len(self.sought))
        self.query_one(Static).update(text)


def titled(tones: Tones, title: str, text: str, tone: str = "") -> Text:
    """A paragraph with a heading, for a pane."""
    found = Text()
    found.append(f"{title}\n", tones["head"])
    found.append(text.rstrip() + "\n", tones[tone])
    return found


def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells."""
    return fitted(text, width).rstrip()
