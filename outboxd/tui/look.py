"""Themes, tones and plain characters: how the dashboard looks on any terminal.

A tone is a meaning (bad, warn, good, live, undo, calm, dim); its colour depends on the theme. It
never stands alone: every state has a glyph and a word as well.
"""

from __future__ import annotations

from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from outboxd.words import PLAIN

DARK = "outboxd-dark"
LIGHT = "outboxd-light"

THEMES = (
    Theme(
        name=DARK,
        primary="#61afef",
        secondary="#56c8d8",
        warning="#e5c07b",
        error="#ff7b72",
        success="#7bc87b",
        accent="#c792ea",
        foreground="#d6dae0",
        background="#0f1318",
        surface="#151a21",
        panel="#1d242d",
        dark=True,
    ),
    Theme(
        name=LIGHT,
        primary="#1457b8",
        secondary="#00707d",
        warning="#8a5a00",
        error="#b3261e",
        success="#1b7f3b",
        accent="#7b2fa8",
        foreground="#1c2128",
        background="#ffffff",
        surface="#f6f8fa",
        panel="#e6eaef",
        dark=False,
    ),
)

_DARK = {
    "bad": "#ff7b72",
    "warn": "#e5c07b",
    "good": "#7bc87b",
    "live": "#61afef",
    "undo": "#c792ea",
    "calm": "#56c8d8",
    "dim": "#8b949e",
}
_LIGHT = {
    "bad": "#b3261e",
    "warn": "#8a5a00",
    "good": "#1b7f3b",
    "live": "#1457b8",
    "undo": "#7b2fa8",
    "calm": "#00707d",
    "dim": "#656d76",
}
_ANSI = {
    "bad": "red",
    "warn": "yellow",
    "good": "green",
    "live": "blue",
    "undo": "magenta",
    "calm": "cyan",
    "dim": "bright_black",
}


class Tones:
    """Tone to style in the theme of now; ``""`` is plain text."""

    def __init__(self, app: App[Any]) -> None:
        theme = app.current_theme
        colours = _ANSI if theme.ansi else _DARK if theme.dark else _LIGHT
        self.styles = {name: Style(color=colour) for name, colour in colours.items()}
        self.styles[""] = Style()
        self.styles["bold"] = Style(bold=True)
        self.styles["title"] = Style(bold=True)
        self.styles["head"] = self.styles["dim"] + Style(bold=True)
        self.styles["key"] = Style(color=colours["live"], bold=True)
        self.styles["rule"] = self.styles["dim"]
        self.styles["mark"] = Style(color=colours["calm"], bold=True)
        if theme.ansi:
            self.cursor = Style(reverse=True)
            self.pale_cursor = Style(underline=True)
        else:
            background = Color.parse(theme.background or "#000000")
            primary = Color.parse(theme.primary)
            self.cursor = Style(bgcolor=background.blend(primary, 0.30).hex, bold=True)
            self.pale_cursor = Style(bgcolor=background.blend(primary, 0.13).hex)

    def __getitem__(self, tone: str) -> Style:
        return self.styles.get(tone) or self.styles[""]


class Plain(LineFilter):
    """Every glyph as an ASCII character, in whatever widget: ``--ascii``."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(s.text.translate(PLAIN), s.style, s.control) for s in segments]
