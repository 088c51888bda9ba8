"""What every screen has: the frame, the keys of its table, and how it is kept fresh.

``look`` says what to read, as a function for the reader's thread; ``draw`` shows what it found.
Whatever goes wrong in between is said on the line above the footer, and what was shown stays.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingsMap
from textual.events import Key as KeyPressed
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from outboxd.errors import OutboxdError
from outboxd.monitor import Monitor, Overview
from outboxd.store.control import Request
from outboxd.tui import keys
from outboxd.tui.widgets.filterline import FilterLine
from outboxd.tui.widgets.lines import Bar, Pane, Part, tones_of
from outboxd.tui.widgets.rows import Rows
from outboxd.tui.widgets.strip import HealthStrip, Minute

from . import frame, pausing
from .ask import Answer, Ask, Question

if TYPE_CHECKING:
    from outboxd.tui.app import Dashboard

T = TypeVar("T")

NARROW = 100
"""Columns below which there is room for one thing at a time."""


class Page(Screen[None]):
    """One screen. ``name_``: as the keys call it; ``hint``: what its filter line says while empty,
    if it has one; ``finds``: that line searches what is shown, and is there only when it is used.
    """

    name_: ClassVar[str] = ""
    hint: ClassVar[str] = ""
    finds: ClassVar[bool] = False
    AUTO_FOCUS = "Rows"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (NARROW, "-wide"), (160, "-huge")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-tall"), (45, "-high")]  # noqa: RUF012  # as textual declares it

    def __init__(self) -> None:
        super().__init__()
        self.filter = ""
        self.drawn = 0
        self.is_ready = False
        self._keys: list[keys.Key] = []

    @property
    def dash(self) -> Dashboard:
        return cast("Dashboard", self.app)

    @property
    def now(self) -> datetime:
        return self.dash.now

    def is_alive(self) -> bool:
        """Whether its widgets are there: not before they are made, nor while it is taken down."""
        return self.is_ready and self.is_running and self.dash.page is self

    # What a screen fills in.

    def body(self) -> ComposeResult:
        """The widgets between tabs and footer."""
        raise NotImplementedError

    def look(self) -> Callable[[Monitor], Any]:
        """What makes its snapshot, in the reader's thread, where no widget may be touched."""
        raise NotImplementedError

    def draw(self, seen: Any) -> None:
        """Shows a snapshot."""
        raise NotImplementedError

    def crumbs(self) -> tuple[list[Part], list[Part]] | None:
        """Instead of the tabs."""
        return None

    def values(self) -> Mapping[str, Sequence[str]]:
        """Field to values that the filter line suggests."""
        return {}

    # The frame.

    def compose(self) -> ComposeResult:
        self._keys = self.dash.keys_of(self.name_)
        self._bindings = BindingsMap(keys.bindings(self._keys))
        yield Bar(id="status")
        yield HealthStrip(id="strip")
        yield Bar(id="tabs")
        if self.hint:
            with Widget(id="filter") as line:
                line.display = not self.finds
                yield Bar(id="slash")
                yield FilterLine(self.values, hint=self.hint)
                yield Bar(id="counts")
        yield from self.body()
        yield Bar(id="said")
        yield Bar(id="footer")

    def on_mount(self) -> None:
        self.is_ready = True
        if self.hint:
            self.query_one("#slash", Bar).put([(" / ", "key", "screen.filter")])
        self.draw_frame()
        self.dash.wake()

    def on_screen_resume(self) -> None:
        self.dash.wake()

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw_frame)

    def draw_frame(self) -> None:
        """Status, strip, tabs, footer, and what was said last."""
        if not self.is_alive():
            return
        dash, width = self.dash, self.size.width
        self.query_one("#status", Bar).put(*frame.status(dash, width))
        self.query_one("#footer", Bar).put(*frame.footer(self._keys, width))
        self.query_one("#said", Bar).put([(" ", ""), dash.said])
        crumbs = self.crumbs()
        tabs = frame.tabs(dash.overview, self.name_) if crumbs is None else crumbs
        self.query_one("#tabs", Bar).put(*tabs)
        strip = self.query_one("#strip", HealthStrip)
        if dash.overview is not None:
            strip.put(frame.cells(dash.overview, dash.flow, dash.trends, self.now), dash.minute)
        else:
            strip.put((), Minute(good=(), bad=()))

    async def refresh_data(self) -> None:
        """Reads and shows; whatever cannot be read is said."""
        if not self.is_alive():
            return
        try:
            seen = await self.dash.reader.ask(self.look())
        except OutboxdError as error:
            self.dash.say(f"✗ {error.message}" + (f": {error.hint}" if error.hint else ""), "bad")
        else:
            if not self.is_alive():
                return
            self.draw(seen)
            self.drawn += 1
        self.draw_frame()

    def count(self, left: str, right: str = "") -> None:
        """What stands at the end of the filter line."""
        tone = "warn" if self.filter else "dim"
        bar = self.query_one("#counts", Bar)
        bar.put([(f"  {left}", tone), (f"   {right} " if right else " ", "dim")])
        bar.styles.width = sum(len(part[0]) for part in bar.left)

    # Keys that most screens have.

    def action_filter(self) -> None:
        self.query_one("#filter").display = True
        self.query_one(FilterLine).focus()

    @on(Input.Changed, "FilterLine")
    def _filtered(self, event: Input.Changed) -> None:
        self.filter = event.value.strip()
        if self.finds:
            self._mark_found()
        else:
            self.dash.wake()

    @on(FilterLine.Left)
    def _left_filter(self) -> None:
        if self.finds:
            self._show_found()
        else:
            self.query(Rows).first().focus()

    def filter_by(self, words: str) -> None:
        """Shows only what these words match."""
        self.query_one(FilterLine).value = words

    def _mark_found(self) -> None:
        found = sum(pane.mark(self.filter) for pane in self.query(Pane))
        found += sum(rows.found(self.filter) for rows in self.query(Rows))
        self.count(f"{found:,} found" if self.filter else "")

    def _show_found(self) -> None:
        """To the first thing that has what is sought; without that, back."""
        self.query_one("#filter").display = bool(self.filter)
        places: list[Rows | Pane] = [*self.query(Rows), *self.query(Pane)]
        for place in places if self.filter else ():
            if place.found(self.filter) if isinstance(place, Rows) else place.mark(self.filter):
                place.focus()
                self._seek(place, 0)
                return
        next(iter(places)).focus()

    def action_seek(self, by: int) -> None:
        place = self.focused
        if isinstance(place, (Rows, Pane)):
            self._seek(place, by)

    def _seek(self, place: Rows | Pane, by: int) -> None:
        if isinstance(place, Pane):
            place.seek(by)
        elif not self.finds:
            place.turn_to(by)  # a filtered list holds nothing but matches
        elif by or not place.has_here(self.filter):
            place.seek(self.filter, by or 1)

    def action_back(self) -> None:
        for rows in self.query(Rows):
            if rows.marks:
                rows.unmark()
                return
        if self.filter and self.hint:
            self.query_one(FilterLine).value = ""
            self.query_one("#filter").display = not self.finds
        elif self.crumbs() is not None:
            self.dismiss(None)

    def action_open(self) -> None:
        if isinstance(self.focused, Rows):
            self.focused.action_open()

    def action_mark(self) -> None:
        if isinstance(self.focused, Rows):
            self.focused.mark()

    def action_mark_all(self) -> None:
        if isinstance(self.focused, Rows):
            self.focused.mark_all()

    def action_pause(self) -> None:
        pausing.ask_which(self)

    def action_sort(self) -> None:
        places = [self.focused, *self.query(Rows)]
        rows = next((p for p in places if isinstance(p, Rows) and p.orders), None)
        if rows is not None:
            rows.sort_next()

    @on(Rows.Sorted)
    def _sorted(self) -> None:
        self.dash.wake()

    def action_freeze(self) -> None:
        self.dash.freeze()

    def action_pane(self) -> None:
        self.focus_next()

    def on_key(self, event: KeyPressed) -> None:
        self.dash.heard()

    # Doing things.

    def ask(self, question: Question, then: Callable[[Answer], object]) -> None:
        """Asks before something is done; ``then`` has the answer, unless that is to do nothing."""

        def answered(answer: Answer | None) -> None:
            if answer is None:
                self.dash.say("○ nothing was done", "dim")
            else:
                then(answer)

        self.app.push_screen(Ask(question), answered)

    @work(group="asked")
    async def ask_for(self, what: str, ask: Callable[[], list[Request]], **more: Any) -> None:
        """Writes a request and says what becomes of it."""
        try:
            requests = await self.dash.reader.ask(lambda _: ask())
        except OutboxdError as error:
            self.dash.say(f"✗ {error.message}" + (f"; {error.hint}" if error.hint else ""), "bad")
            return
        self.dash.follow(what, requests, **more)

    def write_out(self, name: str, value: Any) -> None:
        """JSON into the working directory."""
        path = Path(f"outboxd-{name.replace('/', '-')}.json")
        try:
            path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            self.dash.say(f"✗ cannot write {path}: {error.strerror}", "bad")
        else:
            self.dash.say(f"✓ written to {path}", "good")

    def to_clipboard(self, text: str) -> None:
        self.app.copy_to_clipboard(text)
        first = text.splitlines()[0] if text else ""
        self.dash.say(f"✓ copied: {first}", "good")

    @property
    def tones(self) -> Any:
        return tones_of(self)


Asking = Callable[[Overview | None], Awaitable[None]]
