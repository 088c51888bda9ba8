"""What a command prints: a table on a terminal, tab-separated when piped, or one JSON document.

stdout is data, stderr is talk.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TextIO, TypeVar

import click
import msgspec

from outboxd.words import GLYPHS as GLYPHS
from outboxd.words import ago as ago
from outboxd.words import ahead as ahead
from outboxd.words import clock_time as clock_time
from outboxd.words import counted as counted
from outboxd.words import shortened as shortened
from outboxd.words import stated as stated

T = TypeVar("T")

GAP = "  "

LONGEST_KEY = 40
"""Longer keys than a UUID and something may be cut, before all else is lost."""


class Column(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """``text``: the cell for a person; ``raw``: for a program, when that differs.

    ``least``: its text may be cut to so many characters, before any column goes (0: not at all);
    ``cut``: which end of it goes; ``drops``: from 1, the order in which columns go; ``colour``: of
    a cell, by its row.
    """

    title: str
    text: Callable[[T], str]
    raw: Callable[[T], str] | None = None
    align: Literal["<", ">"] = "<"
    drops: int = 0
    least: int = 0
    cut: Literal["end", "start"] = "end"
    colour: Callable[[T], str | None] | None = None


def can_redraw(stream: TextIO) -> bool:
    """Whether a line of it can be drawn anew."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Standing:
    """One line on stderr, if that is a terminal, that says how far it is; nothing elsewhere."""

    def __init__(self, *, is_wanted: bool = True) -> None:
        self.is_shown = is_wanted and can_redraw(sys.stderr)

    def show(self, text: str) -> None:
        """Draws the line anew."""
        if self.is_shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def end(self) -> None:
        """Takes it away."""
        self.show("")


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to print; ``width`` in characters."""

    is_json: bool
    is_tty: bool
    has_colour: bool
    width: int

    @classmethod
    def here(cls, *, is_json: bool, no_color: bool) -> Output:
        """As the environment has it."""
        is_tty = sys.stdout.isatty()
        is_plain = no_color or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        width = shutil.get_terminal_size((80, 24)).columns
        return cls(is_json=is_json, is_tty=is_tty, has_colour=is_tty and not is_plain, width=width)

    def document(self, value: Any) -> None:
        """One JSON document."""
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))

    def rows(self, rows: Sequence[T], columns: Sequence[Column[T]], *, empty: str = "") -> None:
        """A table, or lines with tabs; ``empty`` is said where there are no rows."""
        if not self.is_tty:
            for row in rows:
                cells = [(column.raw or column.text)(row) for column in columns]
                click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in cells))
            return
        if not rows and empty:
            self.say(empty)
        elif rows:
            for line in table(rows, columns, self.width, has_colour=self.has_colour):
                click.echo(line, color=self.has_colour)

    def line(self, text: str = "") -> None:
        """One line of data."""
        click.echo(text, color=self.has_colour)

    def say(self, text: str) -> None:
        """One line of talk."""
        click.echo(text, err=True)

    def heading(self, text: str) -> None:
        """The title of a part of a page."""
        self.line()
        self.line(self.painted(text, bold=True))

    def painted(self, text: str, colour: str | None = None, *, bold: bool = False) -> str:
        """``text`` in a colour, where colours are wanted."""
        return click.style(text, fg=colour, bold=bold or None) if self.has_colour else text

    def state(self, word: str) -> str:
        """A state with its glyph and colour."""
        return self.painted(stated(word), GLYPHS.get(word, ("", None))[1])


def table(
    rows: Sequence[T], columns: Sequence[Column[T]], width: int, *, has_colour: bool = False
) -> Iterable[str]:
    """The lines of a table that fits into ``width``."""
    kept = list(columns)
    cells = {id(column): [_one_line(column.text(row)) for row in rows] for column in columns}
    widths = _fitted(kept, cells, width)
    titles = [_padded(column.title, widths[id(column)], column.align) for column in kept]
    head = GAP.join(titles).rstrip()
    yield click.style(head, bold=True) if has_colour else head
    for number, row in enumerate(rows):
        parts = []
        for column in kept:
            cell = _padded(cells[id(column)][number], widths[id(column)], column.align, column.cut)
            colour = column.colour(row) if column.colour is not None and has_colour else None
            parts.append(click.style(cell, fg=colour) if colour else cell)
        yield GAP.join(parts).rstrip()


def colour_of(word: str) -> str | None:
    """The colour of a state."""
    return GLYPHS.get(word, ("", None))[1]


def moment(at: datetime | None) -> str:
    """For programs: RFC 3339, UTC; empty for never."""
    return "" if at is None else at.isoformat().replace("+00:00", "Z")


def whole(texts: Iterable[str]) -> int:
    """The width that a column of keys needs: what a person types next is not cut, within reason."""
    return min(max(map(len, texts), default=0), LONGEST_KEY)


def wrapped(sentence: str, width: int, first: str = "  ") -> str:
    """A sentence over several lines, each further one indented by two more than the ``first``."""
    return textwrap.fill(
        sentence,
        max(40, width),
        initial_indent=first,
        subsequent_indent=f"{first}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fitted(kept: list[Column[T]], cells: dict[int, list[str]], width: int) -> dict[int, int]:
    """Widths that fit; takes columns out of ``kept`` where shrinking is not enough."""
    while True:
        widths = {
            id(column): max(len(column.title), *map(len, cells[id(column)])) for column in kept
        }
        over = sum(widths.values()) + len(GAP) * (len(kept) - 1) - width
        for column in reversed(kept):
            if over > 0 and column.least:
                least = max(column.least, len(column.title))
                cut = max(0, min(over, widths[id(column)] - least))
                widths[id(column)] -= cut
                over -= cut
        droppable = [column for column in kept if column.drops]
        if over <= 0 or not droppable:
            return widths
        kept.remove(min(droppable, key=lambda column: column.drops))


def _padded(text: str, width: int, align: str, cut: str = "end") -> str:
    return f"{shortened(text, width, cut):{align}{width}}"


def _one_line(text: str) -> str:
    return " ".join(text.split()) if "\n" in text or "\t" in text else text
