"""Words, glyphs and colours that command line and dashboard share, so that they say the same."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime

from .clock import in_words

GLYPHS = {
    "stuck": ("✗", "red"),
    "paused": ("‖", "yellow"),
    "compensating": ("↶", "magenta"),
    "retrying": ("↻", "yellow"),
    "overdue": ("◔", "yellow"),
    "running": ("▸", "blue"),
    "waiting": ("◔", "white"),
    "completed": ("✓", "green"),
    "compensated": ("✓", "cyan"),
    "cancelled": ("○", "white"),
    "dead": ("✗", "red"),
    "replaying": ("↻", "yellow"),
    "replayed": ("✓", "green"),
    "discarded": ("○", "white"),
    "closed": ("○", "white"),
    "done": ("✓", "green"),
    "sent": ("▸", "blue"),
    "published": ("✓", "green"),
    "rejected": ("✗", "yellow"),
    "timed out": ("✗", "yellow"),
    "failed": ("✗", "red"),
    "late": ("◔", "yellow"),
    "gone": ("○", "white"),
    "pending": ("◔", "yellow"),
    "applied": ("✓", "green"),
    "refused": ("✗", "red"),
    "holds": ("✓", "green"),
    "violated": ("✗", "red"),
    "skipped": ("○", "white"),
    "dropped": ("○", "white"),
}
"""Glyph, word and colour, never colour alone."""


PLAIN = str.maketrans(
    {
        "✗": "x", "✓": "+", "↶": "<", "↻": "~", "◔": "o", "▸": ">", "▾": "v", "◂": "<", "○": "-",
        "●": "*", "◐": "o", "◆": "*", "·": ".", "…": "~", "─": "-", "━": "=", "│": "|", "┃": "|",
        "▌": ">", "▐": "<", "→": ">", "←": "<", "▲": "^", "▼": "v", "⟳": "~", "›": ">", "‹": "<",
        "▁": "_", "▂": ".", "▃": "-", "▄": "-", "▅": "=", "▆": "+", "▇": "*", "█": "#", "▔": "-",
        "▊": "|", "▎": "|", "▏": "|", "▕": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "┌": "+",
        "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "×": "x", "‖": "=", "☞": ">", "—": "-",
    }
)  # fmt: skip
"""What stands for a sign on a terminal that has only ASCII."""


def stated(word: str) -> str:
    """``✗ stuck``: a state as a table shows it."""
    glyph = GLYPHS.get(word, ("", None))[0]
    return f"{glyph} {word}" if glyph else word


def ago(at: datetime | None, now: datetime) -> str:
    """How long ago, as a column shows it; ``-`` for never."""
    return "-" if at is None else in_words((now - at).total_seconds())


def ahead(at: datetime | None, now: datetime) -> str:
    """``in 12s``, or ``14m ago``; ``-`` for never."""
    if at is None:
        return "-"
    left = (at - now).total_seconds()
    span = f"{abs(left):.0f}s" if abs(left) < 10 else in_words(left)
    return f"in {span}" if left >= 0 else f"{span} ago"


def clock_time(at: datetime, now: datetime) -> str:
    """For people: local time, with the date unless it is today's."""
    here, today = at.astimezone(), now.astimezone()
    text = here.strftime("%H:%M:%S.") + f"{here.microsecond // 1000:03d}"
    return text if here.date() == today.date() else f"{here:%Y-%m-%d} {text}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """What may have been meant by a name that is not known."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def counted(n: int, one: str, many: str | None = None) -> str:
    """``1 letter``, ``1,204 letters``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def shortened(text: str, width: int, cut: str = "end") -> str:
    """``text`` in at most ``width`` characters, without its end or its start."""
    if len(text) <= width:
        return text
    kept = max(0, width - 1)
    return f"…{text[len(text) - kept :]}" if cut == "start" else f"{text[:kept]}…"
