"""How the screens look, at three sizes: SVG snapshots by one Python version, at one moment.

After a change that is meant: pytest tests/tui/test_looks.py --snapshot-update, then look at each.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from outboxd.monitor import flow
from outboxd.tui.app import Dashboard
from outboxd.tui.screens.page import Page
from tests.cli import filling
from tests.conftest import wait_until

pytest.importorskip("pytest_textual_snapshot", reason="snapshots need their plugin")

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="snapshots are drawn by Python 3.11 alone"
)

MOMENT = 1_795_600_000.0


class Free(NamedTuple):
    """What is left of the disk."""

    free: int


SIZES = ((80, 24), (120, 35), (200, 50))


def looks(snap_compare: Any, data: Path, size: tuple[int, int], *keys: str, **options: Any) -> bool:
    """Compares what is drawn after some keys with what was drawn before."""
    app = Dashboard(data, clock=filling.Still(), **options)

    async def ready(pilot: Any) -> None:
        await wait_until(lambda: isinstance(app.screen, Page), "the first screen is there")
        await drawn(app)
        for key in keys:
            await pilot.press(key)
            await drawn(app)
        await pilot.pause()

    same: bool = snap_compare(app, terminal_size=size, run_before=ready)
    return same


async def drawn(app: Dashboard) -> None:
    """Waits until the screen has drawn what was read after this call; a panel is drawn at once."""
    if not isinstance(app.screen, Page):
        return
    page: Page = app.screen
    before = page.drawn
    app.wake()
    await wait_until(lambda: not page.is_alive() or page.drawn > before, "it is drawn")
    if not page.is_alive():
        await drawn(app)


@pytest.fixture
def still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The shop, with nothing in it that another run or machine would show otherwise."""
    monkeypatch.setattr(filling, "_at", MOMENT)
    monkeypatch.setattr(
        flow, "_disk", lambda files, name: flow.Disk(name=name, database=135_168, log=4_152)
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Free(79_000_000_000))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    data = tmp_path / "outboxd-data"
    data.mkdir()
    filling.a_shop(data)
    yield data
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("keys", [(), ("enter",), ("2",)], ids=["sagas", "saga", "dead"])
def test_a_screen_looks_as_it_did(
    snap_compare: Any, still: Path, size: tuple[int, int], keys: tuple[str, ...]
) -> None:
    assert looks(snap_compare, still, size, *keys)


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        (("3",), {}),
        (("4",), {}),
        (("X",), {}),
        (("2", "R"), {}),
        (("question_mark",), {"read_only": True}),
        (("t",), {}),
        ((), {"is_plain": True}),
    ],
    ids=["flow", "messages", "cancel", "replay", "read-only-help", "light", "ascii"],
)
def test_panels_and_themes_look_as_they_did(
    snap_compare: Any, still: Path, keys: tuple[str, ...], options: dict[str, Any]
) -> None:
    assert looks(snap_compare, still, (120, 35), *keys, **options)
