"""Text for cells: sparklines, bars, sizes, and what fits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from outboxd.words import GLYPHS

BARS = "▁▂▃▄▅▆▇█"

_TONES = {
    "red": "bad",
    "yellow": "warn",
    "green": "good",
    "blue": "live",
    "magenta": "undo",
    "cyan": "calm",
    "white": "dim",
}


def glyph_of(word: str) -> str:
    """The glyph of a state."""
    return GLYPHS.get(word, ("·", "white"))[0]


def tone_of(word: str) -> str:
    """The tone of a state: what a theme makes a colour of."""
    return _TONES[GLYPHS.get(word, ("", "white"))[1]]


def spark(values: Sequence[float], width: int, top: float = 0.0) -> str:
    """Values as bars, the latest right; where they are more, a bar is the highest of its few.

    ``top``: the scale, if it is more than the highest value. A value above zero is never the lowest
    bar.
    """
    each = -(-len(values) // width) if width else 0
    latest = list(values)[::-1]
    shown = [max(latest[i : i + each]) for i in range(0, len(latest), each or 1)][::-1]
    highest = max([top, *shown], default=0.0)
    bars = []
    for value in shown:
        level = 0 if value <= 0 or highest <= 0 else 1 + round((value / highest) * 6)
        bars.append(BARS[level])
    return "".join(bars).rjust(width, BARS[0])


def size(n: int) -> str:
    """``41 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if n >= 10 or unit == "B" else f"{n:.1f} {unit}"
        n = n / 1000  # type: ignore[assignment]
    raise AssertionError


def rate(per_s: float) -> str:
    """``42/s``, ``0.3/s``, ``-``."""
    if per_s <= 0:
        return "-"
    return f"{per_s:,.0f}/s" if per_s >= 10 else f"{per_s:.1f}/s"


def count(n: int) -> str:
    """A number for a narrow place: ``1,204``, ``12.3k``, ``1.2M``."""
    if n < 10_000:
        return f"{n:,}"
    return f"{n / 1000:.1f}k" if n < 1_000_000 else f"{n / 1_000_000:.1f}M"


def fitted(text: str, width: int, align: str = "<", cut: str = "end") -> str:
    """``text`` in exactly ``width`` cells of a terminal; ``cut``: where, if it is too long."""
    if width <= 0:
        return ""
    text = " ".join(text.split()) if "\n" in text or "\t" in text else text
    length = cell_len(text)
    if length > width and cut == "middle" and width >= 8:
        tail = text[-1:]
        while cell_len(text[-len(tail) - 1 :]) <= width // 2:
            tail = text[-len(tail) - 1 :]
        return f"{set_cell_size(text, width - 1 - cell_len(tail))}…{tail}"
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - length) + text if align == ">" else text + " " * (width - length)


def bar(start: float, end: float, span: float, width: int, ticks: Sequence[float] = ()) -> str:
    """A piece of a time line from ``start`` to ``end`` of ``span``; ``ticks`` are failed tries."""
    if span <= 0 or width <= 0:
        return "█"[: max(0, width)]

    def place(at: float) -> int:
        return max(0, min(width - 1, int(at / span * width)))

    cells = [" "] * width
    for i in range(place(start), place(end) + 1):
        cells[i] = "█"
    for tick in ticks:
        cells[place(tick)] = "✗"
    return "".join(cells)


def scale(span: float, width: int) -> str:
    """The marks above a time line: ``0s      20s      40s``."""
    if span <= 0 or width < 8:
        return "0s"
    steps = max(1, width // 12)
    line = [" "] * (width + 8)
    for i in range(steps):
        at = span * i / steps
        label = "0s" if i == 0 else brief(at)
        start = int(width * i / steps)
        line[start : start + len(label)] = list(label)
    return "".join(line)[:width].rstrip()


def brief(span_s: float) -> str:
    """A span in at most five characters: ``40ms``, ``8.6s``, ``62s``, ``4m``, ``2h``, ``5d``."""
    span_s = abs(span_s)
    if span_s < 1:
        return f"{span_s * 1000:.0f}ms"
    if span_s < 10:
        return f"{span_s:.1f}s"
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "m"), (172800, 3600, "h")):
        if span_s < limit:
            return f"{span_s / divisor:.0f}{unit}"
    return f"{span_s / 86400:.0f}d"


def since(at: datetime | None, now: datetime) -> str:
    """How long ago, briefly: ages below a second are ``now``; ``-`` for never."""
    if at is None:
        return "-"
    span_s = (now - at).total_seconds()
    return "now" if span_s < 1 else f"{int(span_s)}s" if span_s < 60 else brief(span_s)


def ago(at: datetime | None, now: datetime) -> str:
    """``14m ago``; ``just now`` below a second."""
    span = since(at, now)
    return "just now" if span == "now" else f"{span} ago"


def until(at: datetime | None, now: datetime) -> str:
    """``in 12s``, or ``-14m`` for what is overdue; ``-`` for never."""
    if at is None:
        return "-"
    left = (at - now).total_seconds()
    if abs(left) < 1:
        return "now"
    text = f"{abs(int(left))}s" if abs(left) < 60 else brief(left)
    return f"in {text}" if left >= 0 else f"-{text}"
