"""The dashboard itself: its screens, the loop that keeps them fresh, and what is under way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, ScreenStackError
from textual.screen import Screen

from outboxd.clock import Clock, SystemClock, utc
from outboxd.errors import OutboxdError
from outboxd.monitor import Flow, Monitor, Overview
from outboxd.store.control import Request

from .keys import TABLE, Key, of
from .look import DARK, LIGHT, THEMES, Plain, Tones
from .operation import Operation, progress
from .palette import Actions
from .refresh import LEAST_S, POLL_S, REST, SECONDS, TICK_S, Reader, Trends
from .screens.dead import DeadPage
from .screens.flow import FlowPage
from .screens.help import HelpScreen
from .screens.log import LogPage
from .screens.messages import MessagesPage
from .screens.page import Page
from .screens.saga import SagaPage
from .screens.sagas import SagasPage
from .widgets.lines import Part
from .widgets.strip import Minute

Seen = tuple[Overview, Flow | None, dict[int, dict[str, int]]]
"""What stands above every screen: health, the arrows if they were read, and who ended when."""

SAID_S = 20.0
"""What was said stays for so long, unless something else is."""


class Dashboard(App[str]):
    """``read_only`` leaves out every key that changes something; ``is_parent``: outboxd was
    started with it, so that leaving it may stop that as well; ``table``: its keys. The result says
    how it was left: "view" or "stop".
    """

    CSS_PATH = "outboxd.tcss"
    TITLE = "outboxd"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "sagas": SagasPage,
        "dead": DeadPage,
        "flow": FlowPage,
        "messages": MessagesPage,
        "log": LogPage,
    }
    COMMANDS = {Actions}  # noqa: RUF012  # textual reads it from the class, as it is

    def __init__(
        self,
        data: Path,
        *,
        read_only: bool = False,
        is_plain: bool = False,
        is_parent: bool = False,
        table: tuple[Key, ...] = TABLE,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self.data = data
        self.read_only = read_only
        self.is_parent = is_parent
        self.table = table
        self.clock = clock or SystemClock()
        self.reader = Reader(data, self.clock)
        self.trends = Trends()
        self.overview: Overview | None = None
        self.flow: Flow | None = None
        self.minute = Minute(good=(), bad=())
        self.is_frozen = False
        self.stale_since: datetime | None = None
        self.said: Part = ("", "")
        self._said_at = 0.0
        self._started_by = os.getppid()
        self._operation: Operation | None = None
        self._looks = 0
        self._wake = asyncio.Event()
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DARK
        self.tones = Tones(self)
        if is_plain:
            self._filters.append(Plain())

    @property
    def now(self) -> datetime:
        return utc(self.clock.now())

    @property
    def page(self) -> Page | None:
        """The screen that is shown, unless something is asked on top of it or all is taken down."""
        try:
            shown = self.screen
        except ScreenStackError:
            return None
        return shown if isinstance(shown, Page) else None

    def keys_of(self, screen: str) -> list[Key]:
        """What can be pressed on a screen."""
        return of(screen, read_only=self.read_only, table=self.table)

    @property
    def place(self) -> str:
        """The data directory, for the status line."""
        return self.data.name or str(self.data)

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, self._on_theme)
        self.switch_mode("sagas")
        self.run_worker(self._keep_fresh(), group="fresh", exit_on_error=True)
        with contextlib.suppress(ValueError, RuntimeError):  # it runs in no main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, "view")

    def _on_theme(self, _: Any) -> None:
        self.tones = Tones(self)
        for widget in self.screen.walk_children():
            widget.refresh()

    async def on_unmount(self) -> None:
        with contextlib.suppress(ValueError, RuntimeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        await asyncio.to_thread(self.reader.close)

    # Keeping fresh.

    def wake(self) -> None:
        """What is shown has to be read anew now: somebody asked for something else."""
        self._wake.set()

    async def _keep_fresh(self) -> None:
        drawn_at = took_s = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_S)
            is_asked = self._wake.is_set()
            self._wake.clear()
            since_s = self.clock_s - drawn_at
            if not is_asked and (self.is_frozen or since_s < max(LEAST_S, took_s * REST)):
                continue
            if is_asked or since_s >= TICK_S or await self._has_changed():
                started = self.clock_s
                await self.look()
                drawn_at = self.clock_s
                took_s = drawn_at - started

    @property
    def clock_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def _has_changed(self) -> bool:
        try:
            return await self.reader.ask(Monitor.has_changed)
        except OutboxdError:
            return True

    async def look(self) -> None:
        """One look at everything that is shown now."""
        if self.is_parent and os.getppid() != self._started_by:
            self.exit("view")  # who started both is gone: the terminal is another's
            return
        try:
            seen = await self.reader.ask(self._wanted())
        except OutboxdError as error:
            self.stale_since = self.stale_since or self.now
            self.say(f"✗ {error.message}" + (f"; {error.hint}" if error.hint else ""), "bad")
        else:
            self.stale_since = None
            self.overview, flow, ended = seen
            if flow is not None:
                self.flow = flow
                self.trends.note(flow)
            self.minute = _minute(ended, int(self.clock.now()))
        await self._look_at_operation()
        if self.said[0] and self.clock_s - self._said_at > SAID_S:
            self.said = ("", "")
        if self.page is not None:
            await self.page.refresh_data()

    def _wanted(self) -> Callable[[Monitor], Seen]:
        """The arrows are read for their screen; for the strip above the others half as often."""
        self._looks += 1
        if isinstance(self.page, FlowPage) or self.flow is None or self._looks % 2:
            return _seen
        return _seen_without_flow

    async def _look_at_operation(self) -> None:
        operation = self._operation
        if operation is None:
            return
        state = await self.reader.ask(lambda monitor: progress(monitor, operation))
        self.say(state.text, state.tone)
        if state.is_over and self._operation is operation:
            self._operation = None

    # Saying things.

    def say(self, text: str, tone: str = "") -> None:
        """The line above the footer."""
        self.said = (text, tone)
        self._said_at = self.clock_s
        if self.page is not None:
            self.page.draw_frame()

    def heard(self) -> None:
        """A key was pressed: what was said some time ago has been read."""
        if self._operation is None and self.clock_s - self._said_at > 3:
            self.said = ("", "")

    def follow(
        self,
        what: str,
        requests: Sequence[Request],
        letters: Sequence[tuple[str, int]] = (),
    ) -> None:
        """Says what becomes of these requests until they are settled."""
        self._operation = Operation(
            what=what,
            requests=tuple(request.id for request in requests),
            letters=tuple(letters),
        )
        self.say(f"⟳ {what}: asked for", "live")
        self.wake()

    def freeze(self) -> None:
        self.is_frozen = not self.is_frozen
        if self.page is not None:
            self.page.draw_frame()

    # Actions for keys.

    def action_screen(self, name: str) -> None:
        self.switch_mode(name)

    def action_dark_or_light(self) -> None:
        self.theme = LIGHT if self.current_theme.dark else DARK

    def action_keys(self) -> None:
        if self.page is not None:
            self.push_screen(HelpScreen(self.page), self._run_key)

    def _run_key(self, action: str | None) -> None:
        if action is not None and self.page is not None:
            self.page.run_worker(self.run_action(action, self.page), group="key")

    def open_saga(self, saga_id: str) -> None:
        """One saga, above the screen of now."""
        self.push_screen(SagaPage(saga_id))

    def open_letter(self, name: str) -> None:
        """The dead letters, with the cursor on one."""
        self.switch_mode("dead")
        self.call_after_refresh(self._go_to_letter, name)

    def _go_to_letter(self, name: str) -> None:
        if isinstance(self.screen, DeadPage):
            self.screen.go_to(name)

    def open_list(self, name: str, words: str = "") -> None:
        """One of the five screens, filtered."""
        self.switch_mode(name)
        self.call_after_refresh(self._filter, name, words)

    def _filter(self, name: str, words: str) -> None:
        if self.page is not None and self.page.name_ == name and self.page.hint:
            self.page.filter_by(words)

    def action_leave(self) -> None:
        is_up = self.overview is not None and self.overview.daemon.state != "down"
        if not self.is_parent or not is_up:
            self.exit("stop" if self.is_parent else "view")
            return
        from .screens.ask import LEAVING, Ask

        def left(answer: Any) -> None:
            if answer is not None:
                self.exit(answer.choice)

        self.push_screen(Ask(LEAVING), left)


def _seen(monitor: Monitor) -> Seen:
    return monitor.overview(), monitor.flow(), monitor.ended_per_second(SECONDS)


def _seen_without_flow(monitor: Monitor) -> Seen:
    return monitor.overview(), None, monitor.ended_per_second(SECONDS)


def _minute(ended: dict[int, dict[str, int]], now: int) -> Minute:
    """The last whole seconds, the oldest first."""
    seconds = range(now - SECONDS + 1, now + 1)
    good = tuple(ended.get(second, {}).get("completed", 0) for second in seconds)
    bad = tuple(
        sum(ended.get(second, {}).values()) - n for second, n in zip(seconds, good, strict=True)
    )
    return Minute(good=good, bad=bad)
