"""A dashboard without a terminal, on a data directory in trouble, at a moment that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

textual = pytest.importorskip("textual", reason="the dashboard needs textual")

from outboxd.store import control  # noqa: E402
from outboxd.store.connection import open_reader  # noqa: E402
from outboxd.store.control import Request  # noqa: E402
from outboxd.tui.app import Dashboard  # noqa: E402
from outboxd.tui.screens.page import Page  # noqa: E402
from outboxd.tui.widgets.rows import Rows  # noqa: E402
from tests.cli import filling  # noqa: E402
from tests.conftest import wait_until  # noqa: E402

Opened = Callable[..., AbstractAsyncContextManager["Desk"]]


class Desk:
    """A person at the dashboard: presses keys, and reads what is shown."""

    def __init__(self, app: Dashboard, pilot: Any) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def page(self) -> Page:
        assert isinstance(self.app.screen, Page), self.app.screen
        return self.app.screen

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        await self.pilot.press(*("space" if c == " " else _NAMES.get(c, c) for c in text))

    async def sees(self, predicate: Callable[[], Any], description: str) -> None:
        """Waits until it is so; whatever is drawn was read from the files."""
        self.app.wake()
        await wait_until(lambda: bool(predicate()), description)

    async def settles(self) -> None:
        """Waits until the screen of now has drawn something that was read after this call."""
        page = self.page
        before = page.drawn
        await self.sees(lambda: page.drawn > before, "the screen is drawn")
        await self.pilot.pause()

    def rows(self, selector: str) -> Rows:
        return self.app.screen.query_one(selector, Rows)

    def column(self, selector: str, n: int) -> list[str]:
        """The texts of one column."""
        return [line.cells[n][0] for line in self.rows(selector).lines]

    def text(self, *selectors: str) -> str:
        """What stands on bars and panes."""
        return "\n".join(_text_of(self.app.screen.query_one(s)) for s in selectors)

    @property
    def said(self) -> str:
        """The line above the footer."""
        return self.app.said[0]


_NAMES = {
    ":": "colon", "/": "slash", "!": "exclamation_mark", ">": "greater_than_sign", ",": "comma",
    "-": "minus", ".": "full_stop", "*": "asterisk", "?": "question_mark",
}  # fmt: skip


def _text_of(widget: Any) -> str:
    if hasattr(widget, "left"):
        return "".join(part[0] for part in (*widget.left, *widget.right))
    return widget.shown.plain if widget.shown is not None else ""


@pytest.fixture(autouse=True)
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is filled in is as old as it says, however long the run has been going."""
    monkeypatch.setattr(filling, "_at", filling.this_second())


@pytest.fixture
def shop(tmp_path: Path, moment: None) -> Path:
    """A data directory in which some things are in trouble; no daemon runs."""
    data = tmp_path / "outboxd-data"
    data.mkdir()
    filling.a_shop(data)
    return data


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports land in the test's own folder; the developer's settings do not count."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "TEXTUAL_ANIMATIONS", "TEXTUAL_COLOR_SYSTEM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def opened() -> Opened:
    """Opens the dashboard: ``async with opened(data, size=(80, 24)) as desk``."""

    @asynccontextmanager
    async def open_(
        data: Path, size: tuple[int, int] = (120, 35), **options: Any
    ) -> AsyncIterator[Desk]:
        app = Dashboard(data, clock=filling.Still(), **options)
        async with app.run_test(size=size) as pilot:
            desk = Desk(app, pilot)
            await wait_until(lambda: isinstance(app.screen, Page), "the first screen is there")
            await desk.settles()
            yield desk

    return open_


def requests_in(data: Path) -> list[Request]:
    """What operators have asked for, the oldest first."""
    connection = open_reader(data / control.FILE)
    try:
        return control.requests(connection, 100)[::-1]
    finally:
        connection.close()
