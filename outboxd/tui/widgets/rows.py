"""The one list: lines by key, drawn only where they changed, with a cursor, marks and columns.

Only the lines in view are drawn, from a snapshot of cells, so its cost does not grow with its
length; the cursor stays on its key while lines come and go around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from outboxd.tui.text import fitted

from .lines import tones_of

GAP = 2
GUTTER = 3
"""Before the first cell: the cursor's bar and the mark."""

Cell = tuple[str, str]
"""Text and tone."""


class Col(msgspec.Struct, frozen=True, kw_only=True):
    """``flex``: its share of what is left over above ``width``; ``drops``: from 1, the order in
    which columns go where they do not fit; ``sort``: the order that a click on its title asks for;
    ``cut``: where a text is cut that does not fit, in the middle if its end tells it from others.
    """

    title: str
    width: int
    flex: int = 0
    align: Literal["<", ">"] = "<"
    drops: int = 0
    sort: str = ""
    cut: Literal["end", "middle"] = "end"


class Line(msgspec.Struct, frozen=True):
    """One row: its key, and a cell for each column."""

    key: str
    cells: tuple[Cell, ...]


class Rows(ScrollView):
    """The list. ``empty`` is what it says when it has no lines; ``orders`` are the ways in which a
    page can sort it, ``order`` the one in force; ``follows``: the last line stays the last.
    """

    can_focus = True

    DEFAULT_CSS = """
    Rows {
        height: 1fr;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        background: transparent;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("pagedown", "turn(1)", "Page down", show=False),
        Binding("pageup", "turn(-1)", "Page up", show=False),
        Binding("home,g", "jump(0)", "First", show=False),
        Binding("end,G", "jump(-1)", "Last", show=False),
        Binding("enter", "open", "Open", show=False),
        Binding("shift+down", "extend(1)", "Mark and down", show=False),
        Binding("shift+up", "extend(-1)", "Mark and up", show=False),
    ]

    class Moved(Message):
        """The cursor is on another key, or on none."""

        def __init__(self, rows: Rows, key: str | None) -> None:
            super().__init__()
            self.rows = rows
            self.key = key

        @property
        def control(self) -> Rows:
            return self.rows

    class Opened(Message):
        """Enter, or a second click."""

        def __init__(self, rows: Rows, key: str) -> None:
            super().__init__()
            self.rows = rows
            self.key = key

        @property
        def control(self) -> Rows:
            return self.rows

    class Marked(Message):
        """Other marks than before."""

    class Sorted(Message):
        """Another order is asked for."""

    def __init__(
        self,
        columns: Sequence[Col],
        *,
        orders: Sequence[str] = (),
        can_mark: bool = False,
        follows: bool = False,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.orders = tuple(orders)
        self.order = self.orders[0] if orders else ""
        self.can_mark = can_mark
        self.follows = follows
        self.lines: tuple[Line, ...] = ()
        self.marks: set[str] = set()
        self.empty = ""
        self.at = 0
        self.repainted = 0
        self._is_touched = False

    # What it shows.

    def put(self, lines: Sequence[Line]) -> None:
        """The lines as they are now; draws those that changed."""
        before, self.lines = self.lines, tuple(lines)
        key = before[self.at].key if self.at < len(before) else None
        was_at = self.at
        is_at_end = self.follows and before != () and self.at == len(before) - 1
        places = {line.key: n for n, line in enumerate(self.lines)}
        # Until somebody moves the cursor it stays on the first line: that is where trouble is.
        followed = places.get(key, self.at) if key is not None and self._is_touched else 0
        if is_at_end:
            followed = len(self.lines) - 1
        self.at = max(0, min(followed, len(self.lines) - 1))
        gone = self.marks - places.keys()
        self.marks -= gone
        if len(before) != len(self.lines):
            self.virtual_size = Size(self.size.width, len(self.lines) + 1)
            self.refresh()
        else:
            self._repaint(before)
        now = self.key
        if self.at != was_at:
            # The line under the eye stays where it is on the screen.
            self.scroll_to(y=max(0, self.scroll_offset.y + self.at - was_at), animate=False)
            self._follow()
            self.refresh()
        if now != key:
            self.refresh()
            self.post_message(self.Moved(self, now))
        if gone:
            self.post_message(self.Marked())

    def _repaint(self, before: tuple[Line, ...]) -> None:
        top = self.scroll_offset.y
        for y in range(top, min(len(self.lines), top + self.size.height)):
            if self.lines[y] != before[y]:
                self.repainted += 1
                self.refresh_line(y + 1)

    @property
    def key(self) -> str | None:
        """What the cursor is on."""
        return self.lines[self.at].key if self.at < len(self.lines) else None

    def go(self, key: str) -> None:
        """Puts the cursor on a key, if it is here."""
        for n, line in enumerate(self.lines):
            if line.key == key:
                self._move_to(n)

    # What a person does.

    def action_move(self, by: int) -> None:
        self._move_to(self.at + by)

    def action_turn(self, pages: int) -> None:
        self._move_to(self.at + pages * max(1, self.size.height - 2))

    def action_jump(self, to: int) -> None:
        self._move_to(0 if to == 0 else len(self.lines) - 1)

    def turn_to(self, by: int) -> None:
        """The next line, or the previous one; after the last comes the first."""
        if self.lines:
            self._move_to((self.at + by) % len(self.lines))

    def seek(self, text: str, by: int) -> None:
        """The next line with this text, or the previous one, around the ends."""
        for n in range(1, len(self.lines) + 1):
            place = (self.at + n * by) % len(self.lines)
            if self._has(self.lines[place], text):
                self._move_to(place)
                return

    def has_here(self, text: str) -> bool:
        """Whether the line of the cursor has this text."""
        return self.at < len(self.lines) and self._has(self.lines[self.at], text)

    def found(self, text: str) -> int:
        """How many lines have this text."""
        return sum(self._has(line, text) for line in self.lines) if text else 0

    @staticmethod
    def _has(line: Line, text: str) -> bool:
        return any(text.lower() in cell[0].lower() for cell in line.cells)

    def sort_by(self, order: str) -> None:
        """Asks for one of its orders."""
        if order in self.orders and order != self.order:
            self.order = order
            self.refresh_line(0)
            self.post_message(self.Sorted())

    def sort_next(self) -> None:
        """Asks for the order after the one in force."""
        if self.orders:
            self.sort_by(self.orders[(self.orders.index(self.order) + 1) % len(self.orders)])

    def action_open(self) -> None:
        if self.key is not None:
            self.post_message(self.Opened(self, self.key))

    def action_extend(self, by: int) -> None:
        if self.can_mark and self.key is not None:
            self.marks.add(self.key)
            self.post_message(self.Marked())
        self._move_to(self.at + by)

    def mark(self) -> None:
        """Marks the line of the cursor, or unmarks it, and moves on."""
        if self.key is None or not self.can_mark:
            return
        self.marks ^= {self.key}
        self.post_message(self.Marked())
        self.refresh_line(self.at + 1)
        self._move_to(self.at + 1)

    def mark_all(self) -> None:
        """Marks all lines, or none if all are."""
        keys = {line.key for line in self.lines}
        self.marks = set() if keys <= self.marks else keys
        self.post_message(self.Marked())
        self.refresh()

    def unmark(self) -> None:
        """Takes all marks away."""
        self.marks = set()
        self.post_message(self.Marked())
        self.refresh()

    def _move_to(self, n: int) -> None:
        self._is_touched = n > 0
        before, self.at = self.at, max(0, min(n, len(self.lines) - 1))
        if before != self.at:
            self.refresh_line(before + 1)
            self.refresh_line(self.at + 1)
            self._follow()
            self.post_message(self.Moved(self, self.key))

    def _follow(self) -> None:
        top, room = self.scroll_offset.y, max(1, self.size.height - 1)
        if self.at < top:
            self.scroll_to(y=self.at, animate=False)
        elif self.at >= top + room:
            self.scroll_to(y=self.at - room + 1, animate=False)

    def on_click(self, event: events.Click) -> None:
        n = self.scroll_offset.y + event.y - 1
        if event.y == 0:
            self._click_on_head(event.x)
        if event.y < 1 or n >= len(self.lines):
            return
        if n == self.at and event.chain > 1:
            self.action_open()
        self._move_to(n)

    def _click_on_head(self, x: int) -> None:
        start = GUTTER
        for column, room in zip(self.columns, self.widths(), strict=True):
            if room and start <= x < start + room + GAP:
                self.sort_by(column.sort)
            start += room + GAP if room else 0

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        self.virtual_size = Size(event.size.width, len(self.lines) + 1)
        self._follow()
        self.refresh()

    # How it is drawn.

    def widths(self) -> list[int]:
        """A width for each column; 0 for those that do not fit."""
        kept = [c for c in self.columns if c.width]
        room = self.size.width - GUTTER - 1

        def needed() -> int:
            return sum(c.width for c in kept) + GAP * max(0, len(kept) - 1)

        while needed() > room and any(c.drops for c in kept):
            kept.remove(min((c for c in kept if c.drops), key=lambda c: c.drops))
        spare = max(0, room - needed())
        shares = sum(c.flex for c in kept)
        found = []
        for column in self.columns:
            extra = spare * column.flex // shares if shares and column in kept else 0
            found.append(column.width + extra if column in kept else 0)
        return found

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._head(width)
        n = self.scroll_offset.y + y - 1
        if n < len(self.lines):
            return self._line(n, width)
        if not self.lines and self.empty:
            return self._empty(y, width)
        return Strip.blank(width, self.rich_style)

    def _head(self, width: int) -> Strip:
        style = self.rich_style + tones_of(self)["head"]
        parts = [
            fitted(self._title(column, room), room, column.align)
            for column, room in zip(self.columns, self.widths(), strict=True)
            if room
        ]
        text = " " * GUTTER + (" " * GAP).join(parts)
        return Strip([Segment(fitted(text, width), style)], width)

    def _title(self, column: Col, room: int) -> str:
        is_sorted = column.sort and column.sort == self.order
        has_room = len(column.title) < room
        return f"{column.title}▾" if is_sorted and has_room else column.title

    def _line(self, n: int, width: int) -> Strip:
        tones, line = tones_of(self), self.lines[n]
        base = self.rich_style
        is_here = n == self.at
        if is_here:
            base = base + (tones.cursor if self.has_focus else tones.pale_cursor)
        is_marked = line.key in self.marks
        segments = [
            Segment("▌" if is_here else " ", base + tones["live"]),
            Segment("✓ " if is_marked else "  ", base + tones["mark"]),
        ]
        is_first = True
        for (text, tone), column, room in zip(line.cells, self.columns, self.widths(), strict=True):
            if not room:
                continue
            if not is_first:
                segments.append(Segment(" " * GAP, base))
            shown = fitted(text, room, column.align, column.cut)
            segments.append(Segment(shown, base + tones[tone]))
            is_first = False
        return Strip(segments).adjust_cell_length(width, base)

    def _empty(self, y: int, width: int) -> Strip:
        lines = self.empty.splitlines()
        n = y - 2
        style: Style = self.rich_style + tones_of(self)["dim"]
        text = f"   {lines[n]}" if 0 <= n < len(lines) else ""
        return Strip([Segment(fitted(text, width), style)], width)
