"""Health at a glance: three rows of name, value, and age or rate; a cell opens its screen."""

from __future__ import annotations

import msgspec
from rich.style import Style
from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

from outboxd.tui.text import fitted, spark

from .lines import tones_of

_LEAST = 10
_MOST = 14
_SPARK = 10
"""Below so many cells the minute is not drawn."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One value. ``tone`` says whether it is all right; ``action`` is what a click does."""

    name: str
    value: str
    detail: str
    tone: str = ""
    action: str = ""


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """The last 60 seconds: sagas that ended well, and those that were undone or stuck."""

    good: tuple[int, ...]
    bad: tuple[int, ...]


class HealthStrip(Widget):
    """Cells from the left, and the last minute in what is left over."""

    DEFAULT_CSS = """
    HealthStrip { height: 3; }
    """

    auto_links = False
    cells: tuple[Cell, ...] = ()
    minute: Minute = Minute(good=(), bad=())

    def put(self, cells: tuple[Cell, ...], minute: Minute) -> None:
        """What to show; draws only what is new."""
        if (cells, minute) != (self.cells, self.minute):
            self.cells, self.minute = cells, minute
            self.refresh()

    def render(self) -> RenderResult:
        tones, width = tones_of(self), self.size.width
        if not self.cells:
            return ""
        room = min(_MOST, max(_LEAST, (width - _SPARK - 9) // len(self.cells)))
        lines = [Text(" ", no_wrap=True, end="") for _ in range(3)]
        for cell in self.cells:
            click = Style(meta={"@click": cell.action}) if cell.action else Style()
            for line, text, tone in zip(
                lines,
                (cell.name, cell.value, cell.detail),
                ("head", cell.tone or "bold", cell.tone or "dim"),
                strict=True,
            ):
                line.append(fitted(text, room - 1) + " ", tones[tone] + click)
        left = min(60, width - 1 - room * len(self.cells) - 8)
        if left >= _SPARK:
            top = max([1, *self.minute.good, *self.minute.bad])
            lines[0].append(fitted("LAST 60 s", left), tones["head"])
            for line, values, tone, word in (
                (lines[1], self.minute.good, "good", " ok"),
                (lines[2], self.minute.bad, "bad", " undone"),
            ):
                tone = tone if any(values) else "dim"
                line.append(spark(values, left, top), tones[tone])
                line.append(word, tones["dim"])
        return Text("\n", end="").join(lines)
