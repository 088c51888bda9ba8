"""Many sagas at once: the marked are cancelled, the stuck are retried, and it is said how many."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd.store import control
from outboxd.tui.screens.ask import Ask
from outboxd.tui.widgets.choices import Choices
from tests.cli import filling
from tests.cli.filling import control_db, store

from .conftest import Desk, Opened, requests_in

pytestmark = pytest.mark.anyio


async def asked(desk: Desk, key: str) -> None:
    await desk.press(key)
    await desk.sees(lambda: isinstance(desk.app.screen, Ask), "it asks")


async def test_the_marked_are_cancelled_once_their_number_is_typed(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        await desk.press("space", "space")
        assert "2 marked" in desk.text("#counts")
        await asked(desk, "X")
        await desk.type("a test order")
        await desk.press("tab")
        assert desk.app.screen.query_one("#yes").disabled
        await desk.type("2")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: len(requests_in(shop)) == 2, "each is asked for")
        assert {request.kind for request in requests_in(shop)} == {"saga.cancel"}
        await desk.press("escape")
        assert not desk.rows("#sagas").marks


async def test_all_that_are_stuck_are_retried_each_in_its_way(shop: Path, opened: Opened) -> None:
    with store(shop, "orders") as connection:
        filling.saga(connection, "10001", "stuck", stuck="bug", detail="KeyError: 'sku'")
    async with opened(shop) as desk:
        await asked(desk, "R")
        choices = desk.app.screen.query_one(Choices)
        assert choices.labels == ("2 stuck sagas in this list",)
        await desk.press("tab")
        await desk.type("fixed")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: len(requests_in(shop)) == 2, "both are asked for")
        found = {request.kind: request.target for request in requests_in(shop)}
        assert found == {"dead.replay": "d-1", "saga.retry": "orders/fulfil/10001"}


async def test_how_many_were_refused_is_said_with_the_reason(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        with filling.daemon(shop):
            await desk.press("asterisk")
            await asked(desk, "X")
            await desk.type("a test order")
            await desk.press("tab")
            await desk.type("6")
            await desk.press("tab", "tab", "enter")
            await desk.sees(lambda: len(requests_in(shop)) == 6, "each is asked for")
            with control_db(shop) as connection:
                for n, request in enumerate(requests_in(shop)):
                    state: control.State = "applied" if n else "refused"
                    control.mark(connection, request.id, state, "past its point", 1.0)
            await desk.sees(lambda: "1 of 6 refused: past its point" in desk.said, "it is said")
