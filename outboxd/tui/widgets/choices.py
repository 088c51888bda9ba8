"""One of a few things: a line each, with the chosen one marked; of many, those around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from .lines import tones_of

MOST = 8
"""Lines; the rest comes into view as one moves."""


class Choices(Widget):
    """Up and down choose; so does a click."""

    can_focus = True

    DEFAULT_CSS = """
    Choices { height: auto; width: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "choose(1)", "Next", show=False),
        Binding("up,k", "choose(-1)", "Previous", show=False),
    ]

    class Changed(Message):
        """Another one is chosen."""

    def __init__(self, labels: Sequence[str], *, at: int = 0, id: str | None = None) -> None:
        super().__init__(id=id)
        self.labels = tuple(labels)
        self.at = at

    def render(self) -> RenderResult:
        tones = tones_of(self)
        text = Text(end="")
        shown = list(enumerate(self.labels))[self._top : self._top + MOST]
        for n, label in shown:
            is_chosen = n == self.at
            cursor = tones.cursor if is_chosen and self.has_focus else tones[""]
            text.append("(●) " if is_chosen else "( ) ", tones["key" if is_chosen else "dim"])
            text.append(label, cursor + tones["title" if is_chosen else ""])
            text.append("\n" if n < shown[-1][0] else "")
        text.no_wrap, text.overflow = True, "ellipsis"
        return text

    @property
    def _top(self) -> int:
        """The first line in view, with the chosen one in the middle where there is more."""
        return max(0, min(self.at - MOST // 2, len(self.labels) - MOST))

    def action_choose(self, by: int) -> None:
        self._choose(self.at + by)

    def on_click(self, event: events.Click) -> None:
        self._choose(self._top + event.y)

    def _choose(self, n: int) -> None:
        self.at = max(0, min(n, len(self.labels) - 1))
        self.refresh()
        self.post_message(self.Changed())

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
