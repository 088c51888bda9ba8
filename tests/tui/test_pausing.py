"""Pausing and resuming from the dashboard: asked for with a reason, and visible until it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd.store import pausing
from outboxd.store.pausing import Pause
from outboxd.tui.screens.ask import Ask
from outboxd.tui.widgets.choices import Choices
from tests.cli import filling
from tests.cli.filling import store

from .conftest import Desk, Opened, requests_in

pytestmark = pytest.mark.anyio


def pause(data: Path, name: str) -> None:
    """As the daemon would have applied it."""
    with store(data, name) as connection:
        pausing.put(connection, Pause(filling.now() - 120, "ann", "the bank is closed"))


async def asked(desk: Desk) -> Choices:
    """The panel, opened by P."""
    await desk.press("P")
    await desk.sees(lambda: isinstance(desk.app.screen, Ask), "it asks")
    return desk.app.screen.query_one(Choices)


async def on_flow(desk: Desk, row: str) -> None:
    await desk.press("3")
    await desk.sees(lambda: desk.page.name_ == "flow", "the flow opens")
    await desk.settles()
    desk.rows("#arrows").go(row)


async def test_the_participant_under_the_cursor_is_paused_with_a_reason(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        await on_flow(desk, "inbox payments")
        choices = await asked(desk)
        assert choices.labels[choices.at] == "pause payments: 1 running, 2 wait in its inbox"
        assert desk.app.screen.query_one("#yes").disabled, "without a reason nothing is done"
        await desk.press("tab")
        await desk.type("bank is closed")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: requests_in(shop), "it is asked for")
        [request] = requests_in(shop)
        assert (request.kind, request.participant) == ("participant.pause", "payments")
        assert request.reason == "bank is closed"


async def test_all_are_paused_at_once(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        choices = await asked(desk)
        assert choices.labels[-1] == "pause all of them"
        await desk.press("up", "down", "down", "tab")
        await desk.type("moving house")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: requests_in(shop), "it is asked for")
        assert {request.participant for request in requests_in(shop)} == {"orders", "payments"}


async def test_a_pause_is_seen_everywhere_and_ended_without_a_reason(
    shop: Path, opened: Opened
) -> None:
    pause(shop, "payments")
    with filling.daemon(shop):
        async with opened(shop) as desk:
            assert "payments paused" in desk.text("#status")
            await on_flow(desk, "inbox payments")
            row = next(row for row in desk.rows("#arrows").lines if row.key == "inbox payments")
            assert "‖ paused" in row.cells[0][0]
            assert row.cells[8][0] == "‖ paused by ann for 2m: the bank is closed"
            choices = await asked(desk)
            assert choices.labels[choices.at].startswith("resume payments: paused by ann")
            await desk.press("tab", "tab", "tab", "enter")
            await desk.sees(lambda: requests_in(shop), "it is asked for")
            [request] = requests_in(shop)
            assert (request.kind, request.target) == ("participant.resume", "payments")


async def test_where_all_are_paused_one_word_says_so(shop: Path, opened: Opened) -> None:
    pause(shop, "payments")
    pause(shop, "orders")
    async with opened(shop, size=(80, 24)) as desk:
        assert "all paused" in desk.text("#status")
        choices = await asked(desk)
        assert choices.labels[-1] == "resume all 2 that are paused"


async def test_a_reader_cannot_pause(shop: Path, opened: Opened) -> None:
    async with opened(shop, read_only=True) as desk:
        await on_flow(desk, "inbox payments")
        await desk.press("P")
        await desk.pilot.pause()
        assert not isinstance(desk.app.screen, Ask)


async def test_of_many_participants_those_around_the_chosen_one_are_shown(
    shop: Path, opened: Opened
) -> None:
    for n in range(20):
        with store(shop, f"stock{n:02}"):
            pass
    async with opened(shop, size=(80, 24)) as desk:
        choices = await asked(desk)
        await desk.press(*["down"] * 12)
        assert choices.at == 12
        await desk.pilot.pause()
        drawn = desk.app.export_screenshot().replace("&#160;", " ")
        assert "pause stock10" in drawn
        assert "pause stock19" not in drawn


async def test_an_arrow_opens_what_lies_on_it_and_tells_the_whole_error(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop, size=(80, 24)) as desk:
        await on_flow(desk, "inbox payments")
        await desk.sees(lambda: desk.page.query_one("#about").display, "the error is told")
        await desk.press("enter")
        await desk.sees(lambda: desk.page.name_ == "messages", "the messages open")
        await desk.sees(lambda: len(desk.column("#messages", 0)) == 3, "those at payments")
