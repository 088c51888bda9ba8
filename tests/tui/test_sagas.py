"""The sagas' screens: what is listed, filtered, opened, and asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outboxd.tui.widgets.filterline import FilterLine
from tests.cli import filling
from tests.cli.filling import store
from tests.conftest import wait_until

from .conftest import Opened, requests_in

pytestmark = pytest.mark.anyio


async def test_trouble_comes_first(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        assert desk.column("#sagas", 0)[:3] == ["10431", "10502", "10519"]
        assert desk.column("#sagas", 2)[0] == "✗ stuck"
        assert "not running" in desk.text("#status")
        assert "8 of 8 sagas" in desk.text("#counts")


async def test_what_changes_is_patched_and_the_cursor_stays_on_its_saga(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        rows = desk.rows("#sagas")
        await desk.press("j", "j")
        assert rows.key == "orders/fulfil/10519"
        with store(shop, "orders") as connection:
            filling.saga(connection, "10001", "stuck", stuck="bug", detail="KeyError: 'sku'")
        await desk.sees(lambda: "10001" in desk.column("#sagas", 0), "the new saga is listed")
        assert rows.key == "orders/fulfil/10519"
        before = rows.repainted
        with store(shop, "orders") as connection:
            connection.execute("UPDATE outboxd_saga SET step = 'ReserveStock' WHERE key = '10001'")
        await desk.sees(lambda: "ReserveStock" in desk.column("#sagas", 3), "its step is shown")
        assert rows.repainted == before + 1, "one line was drawn, not all"


async def test_a_frozen_view_stands_while_the_work_goes_on(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("f")
        assert "FROZEN" in desk.text("#status")
        drawn = desk.page.drawn
        with store(shop, "orders") as connection:
            filling.saga(connection, "10001", "stuck")
        await wait_until(desk.app._has_changed, "the change could be read")
        await desk.pilot.pause()
        assert desk.page.drawn == drawn
        assert "10001" not in desk.column("#sagas", 0)
        await desk.press("f")
        await desk.sees(lambda: "10001" in desk.column("#sagas", 0), "it goes on")


async def test_a_filter_is_typed_suggested_and_cleared(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("slash")
        await desk.type("state:stu")
        line = desk.page.query_one(FilterLine)
        await desk.sees(lambda: line._suggestion == "state:stuck", "the state is suggested")
        await desk.press("tab")
        assert line.value == "state:stuck"
        await desk.sees(lambda: desk.column("#sagas", 0) == ["10431"], "only it is listed")
        await desk.press("enter")
        assert desk.rows("#sagas").has_focus
        assert "1 of 8" in desk.text("#counts")
        await desk.press("escape")
        await desk.sees(lambda: len(desk.column("#sagas", 0)) == 8, "all are back")


async def test_a_wrong_filter_is_said_and_esc_takes_it_away(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("slash")
        await desk.type("colour:red")
        await desk.sees(lambda: "no field 'colour'" in desk.said, "what is wrong is said")
        await desk.press("escape")
        await desk.sees(lambda: len(desk.column("#sagas", 0)) == 8, "all are back")


async def test_a_filter_that_nothing_matches_teaches_the_way_out(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        await desk.press("slash")
        await desk.type("zebra")
        await desk.sees(lambda: not desk.rows("#sagas").lines, "nothing matches")
        assert "esc clears" in desk.rows("#sagas").empty


async def test_a_saga_opens_with_all_of_it_and_esc_returns_to_its_row(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        await desk.press("j", "enter")
        await desk.sees(lambda: desk.page.name_ == "saga", "it opens")
        await desk.settles()
        assert "10502" in desk.text("#tabs")
        assert "AuthorizePayment: over the limit" in desk.text("#waits")
        await desk.press("escape")
        await desk.sees(lambda: desk.page.name_ == "sagas", "back")
        assert desk.rows("#sagas").key == "orders/fulfil/10502"


async def test_history_shows_payloads_and_failures_alone(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        desk.app.open_saga("orders/fulfil/10300")
        await desk.sees(lambda: desk.page.name_ == "saga", "it opens")
        await desk.settles()
        assert len(desk.rows("#history").lines) == 3
        await desk.press("k")
        await desk.pilot.pause()
        assert '"cents": 4990' in desk.text("#payload")
        assert '"type": "PlaceOrder"' in desk.text("#payload")
        await desk.press("x")
        await desk.sees(lambda: not desk.rows("#history").lines, "nothing failed")


async def test_retry_replays_the_letter_that_holds_a_saga(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("r")
        await desk.sees(lambda: requests_in(shop), "it is asked for")
        [request] = requests_in(shop)
        assert (request.kind, request.participant) == ("dead.replay", "payments")
        assert request.target == "d-1"
        await desk.sees(lambda: "queued" in desk.said, "no daemon runs, and that is said")


async def test_a_saga_that_goes_on_by_itself_is_not_retried(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("j", "j", "r")
        await desk.sees(lambda: "goes on by itself" in desk.said, "it says so")
        assert not requests_in(shop)


async def test_cancel_asks_why_and_enter_by_habit_does_nothing(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("X")
        await desk.sees(lambda: desk.app.screen.query("#panel"), "it asks")
        await desk.press("enter", "enter")
        assert not requests_in(shop)
        await desk.press("escape")
        await desk.sees(lambda: "nothing was done" in desk.said, "esc is no")
        await desk.press("X")
        await desk.sees(lambda: desk.app.screen.query("#reason"), "it asks again")
        await desk.type("ordered twice")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: requests_in(shop), "it is asked for")
        [request] = requests_in(shop)
        assert (request.kind, request.target) == ("saga.cancel", "orders/fulfil/10431")
        assert request.reason == "ordered twice"


async def test_kill_wants_the_key_typed(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("enter")
        await desk.sees(lambda: desk.page.name_ == "saga", "it opens")
        await desk.settles()
        await desk.press("K")
        await desk.sees(lambda: desk.app.screen.query("#typed"), "it asks")
        await desk.type("fraud")
        assert desk.app.screen.query_one("#yes").disabled
        await desk.press("tab")
        await desk.type("10431")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: requests_in(shop), "it is asked for")
        assert requests_in(shop)[0].kind == "saga.kill"


async def test_read_only_has_no_key_that_changes_anything(shop: Path, opened: Opened) -> None:
    async with opened(shop, read_only=True) as desk:
        assert "read-only" in desk.text("#status")
        assert "Retry" not in desk.text("#footer")
        await desk.press("r", "X")
        await desk.pilot.pause()
        assert not desk.app.screen.query("#panel")
        assert not requests_in(shop)
        await desk.press("question_mark")
        await desk.sees(lambda: desk.app.screen.query("#keys"), "help opens")
        assert not [key for key in desk.column("#keys", 0) if key in ("r", "X", "K", "R", "D")]


async def test_help_is_searched_and_runs_what_it_finds(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("question_mark")
        await desk.sees(lambda: desk.app.screen.query("#keys"), "help opens")
        await desk.type("arrow of the data")
        assert desk.column("#keys", 0) == ["3"]
        await desk.press("enter")
        await desk.sees(lambda: desk.page.name_ == "flow", "the flow opens")


async def test_where_nothing_has_happened_the_screen_teaches(
    tmp_path: Path, opened: Opened
) -> None:
    data = tmp_path / "empty"
    with store(data, "orders"):
        pass
    async with opened(data) as desk:
        assert "outboxd send" in desk.rows("#sagas").empty
        await desk.press("2")
        await desk.sees(lambda: desk.page.name_ == "dead", "the letters open")
        await desk.settles()
        assert "Nothing is dead" in desk.rows("#groups").empty


async def test_leaving_leaves_the_files_and_no_thread(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("q")
    assert desk.app.return_value == "view"
    assert not desk.app.return_code


async def test_a_step_is_answered_by_hand(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("enter")
        await desk.sees(lambda: desk.page.name_ == "saga", "it opens")
        await desk.settles()
        await desk.press("S")
        await desk.sees(lambda: desk.app.screen.query("#value"), "it asks for the answer")
        await desk.press("tab", "end", *["backspace"] * 4)
        await desk.type("7")
        await desk.press("tab")
        await desk.type("by phone")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: requests_in(shop), "it is asked for")
        [request] = requests_in(shop)
        assert (request.kind, request.reason) == ("saga.skip", "by phone")
        assert json.loads(request.args)["value"] == 7


@pytest.mark.parametrize(("keys", "state"), [((), "completed"), (("down",), "compensated")])
async def test_a_saga_is_ended_by_hand(
    shop: Path, opened: Opened, keys: tuple[str, ...], state: str
) -> None:
    async with opened(shop) as desk:
        await desk.press("enter")
        await desk.sees(lambda: desk.page.name_ == "saga", "it opens")
        await desk.settles()
        await desk.press("E")
        await desk.sees(lambda: desk.app.screen.query("#choices"), "it asks how")
        await desk.press(*keys, "tab", "tab")
        await desk.type("at the till")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: requests_in(shop), "it is asked for")
        [request] = requests_in(shop)
        assert request.kind == "saga.resolve"
        assert json.loads(request.args)["state"] == state


async def test_what_is_no_json_is_said_and_nothing_is_asked_for(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("enter")
        await desk.sees(lambda: desk.page.name_ == "saga", "it opens")
        await desk.settles()
        await desk.press("S")
        await desk.sees(lambda: desk.app.screen.query("#value"), "it asks for the answer")
        await desk.press("tab")
        await desk.type("{")
        await desk.press("tab")
        await desk.type("why")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: "no JSON" in desk.said, "it is said")
        assert not requests_in(shop)
