"""Finding, sorting and following: what is looked for comes under the cursor."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd.tui.widgets.lines import Pane
from tests.cli import filling
from tests.cli.filling import HOUR, store

from .conftest import Desk, Opened

pytestmark = pytest.mark.anyio


async def opens_saga(desk: Desk, key: str) -> None:
    desk.app.open_saga(f"orders/fulfil/{key}")
    await desk.sees(lambda: desk.page.name_ == "saga", "it opens")
    await desk.settles()


async def test_a_text_is_found_in_a_history_and_esc_forgets_it(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await opens_saga(desk, "10300")
        await desk.press("g", "slash")
        await desk.type("answered")
        await desk.sees(lambda: "1 found" in desk.text("#counts"), "it is counted")
        await desk.press("enter")
        history = desk.rows("#history")
        assert history.has_focus
        assert history.lines[history.at].cells[2][0] == "✓ answered"
        await desk.press("n")
        assert history.lines[history.at].cells[2][0] == "✓ answered", "around to the only one"
        await desk.press("escape")
        assert desk.page.name_ == "saga"
        assert not desk.page.query_one("#filter").display


async def test_a_line_far_down_a_traceback_is_scrolled_to(shop: Path, opened: Opened) -> None:
    frames = [f'  File "lib/deep.py", line {n}, in frame_{n}' for n in range(200)]
    with store(shop, "payments") as connection:
        connection.execute("UPDATE outboxd_dead SET traceback = ?", ("\n".join(frames),))
    async with opened(shop) as desk:
        await desk.press("2")
        await desk.settles()
        await desk.press("tab", "enter")
        await desk.sees(lambda: desk.page.name_ == "letter", "it opens")
        await desk.settles()
        await desk.press("slash")
        await desk.type("frame_15")
        await desk.press("enter")
        pane = desk.page.query_one("#error", Pane)
        await desk.sees(lambda: pane.scroll_offset.y > 0, "it scrolls there")
        assert pane.has_focus
        first = pane.scroll_offset.y
        await desk.press("n", "n")
        await desk.sees(lambda: pane.scroll_offset.y > first, "the next is further down")
        await desk.press("N", "N")
        await desk.sees(lambda: pane.scroll_offset.y == first, "and back")


async def test_in_a_filtered_list_n_goes_round(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        rows = desk.rows("#sagas")
        await desk.press("N")
        assert rows.at == len(rows.lines) - 1
        await desk.press("n")
        assert rows.at == 0


async def test_a_list_is_sorted_by_key_and_by_a_click_on_a_title(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        await desk.press("s", "s", "s")
        await desk.sees(
            lambda: desk.column("#sagas", 0) == sorted(desk.column("#sagas", 0)), "by key"
        )
        assert "sort: key" in desk.text("#counts")
        rows = desk.rows("#sagas")
        state = 3 + sum(width + 2 for width in rows.widths()[:2])
        await desk.pilot.click("#sagas", offset=(state, 0))
        await desk.sees(lambda: desk.column("#sagas", 2)[0] == "✗ stuck", "trouble first again")


async def test_letters_are_sorted_and_a_cause_shows_when_it_struck(
    shop: Path, opened: Opened
) -> None:
    with store(shop, "payments") as connection:
        for n in range(3):
            filling.letter(
                connection, f"old-{n}", key=f"k{n}", at=filling.now() - 13 * HOUR, failed=n + 1
            )
    async with opened(shop) as desk:
        await desk.press("2")
        await desk.settles()
        assert desk.column("#groups", 7) == ["▁▁▁▁▁█▁▁▁▁▁▄"]
        await desk.press("tab", "s", "s", "s")
        await desk.sees(lambda: desk.column("#letters", 6) == ["3", "2", "1", "1"], "worst first")


async def test_the_end_of_a_history_is_followed_until_one_looks_back(
    shop: Path, opened: Opened
) -> None:
    saga_id = "orders/fulfil/10519"

    def happens(name: str) -> None:
        with store(shop, "orders") as connection:
            filling.journal(connection, saga_id, "run", 9, name, filling.now())

    async with opened(shop) as desk:
        await opens_saga(desk, "10519")
        history = desk.rows("#history")
        assert "following the last" in desk.text("#history-title")
        happens("note")
        await desk.sees(lambda: len(history.lines) == 3, "it is listed")
        assert history.at == 2
        await desk.press("k")
        assert "following" not in desk.text("#history-title")
        happens("other")
        await desk.sees(lambda: len(history.lines) == 4, "it is listed")
        assert history.at == 1


async def test_only_what_is_pending_is_shown(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await opens_saga(desk, "10519")
        await desk.press("p")
        await desk.sees(lambda: len(desk.rows("#history").lines) == 1, "one step")
        [line] = desk.rows("#history").lines
        assert (line.cells[2][0], line.cells[3][0]) == ("◔ pending", "AuthorizePayment")
        assert "at payments" in line.cells[4][0]
