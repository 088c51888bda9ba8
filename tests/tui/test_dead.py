"""Dead letters on the screen: grouped, read, replayed and discarded, with the questions due."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outboxd.store import control, dead
from outboxd.tui.screens.ask import Ask
from tests.cli import filling
from tests.cli.filling import HOUR, store

from .conftest import Desk, Opened, requests_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def graveyard(shop: Path) -> Path:
    """Two causes at payments: twelve silent banks beside the one of the shop, and one bug."""
    with store(shop, "payments") as connection:
        for n in range(12):
            filling.letter(connection, f"client-{n}", key=f"k{n}", at=filling.now() - HOUR + n)
        filling.letter(
            connection, "odd", key="k99", error_type="KeyError", error="'sku'", handler="payments.x"
        )
    return shop


async def on_letters(desk: Desk) -> None:
    """The second screen, with the cursor in the list of letters."""
    await desk.press("2")
    await desk.sees(lambda: desk.page.name_ == "dead", "the letters open")
    await desk.settles()
    await desk.press("tab")
    assert desk.rows("#letters").has_focus


async def test_letters_stand_by_cause_the_largest_first(graveyard: Path, opened: Opened) -> None:
    async with opened(graveyard) as desk:
        await desk.press("2")
        await desk.sees(lambda: desk.page.name_ == "dead", "the letters open")
        await desk.settles()
        assert desk.column("#groups", 2) == ["13", "1"]
        assert "14 letters in 2 groups" in desk.text("#counts")
        assert len(desk.rows("#letters").lines) == 13
        await desk.press("j")
        await desk.sees(lambda: desk.column("#letters", 3) == ["k99"], "those of the other cause")
        assert "KeyError" in desk.text("#group-title")


async def test_a_letter_opens_with_error_payload_and_attempts(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await on_letters(desk)
        assert "no answer from card-gw" in desk.text("#letter")
        await desk.press("enter")
        await desk.sees(lambda: desk.page.name_ == "letter", "it opens")
        await desk.settles()
        assert 'File "plugins/payments.py", line 52' in desk.text("#error")
        assert '"order_id": "1"' in desk.text("#payload")
        assert "gave up" in desk.text("#attempts")
        await desk.press("o")
        await desk.sees(lambda: desk.page.name_ == "saga", "the saga that waits for it")


async def test_one_letter_is_replayed_without_a_question(graveyard: Path, opened: Opened) -> None:
    async with opened(graveyard) as desk:
        await on_letters(desk)
        await desk.press("j", "r")
        await desk.sees(lambda: requests_in(graveyard), "it is asked for")
        [request] = requests_in(graveyard)
        assert (request.kind, request.target) == ("dead.replay", "d-12")
        assert not isinstance(desk.app.screen, Ask)


async def test_the_marked_are_replayed_as_one_operation(graveyard: Path, opened: Opened) -> None:
    async with opened(graveyard) as desk:
        await on_letters(desk)
        await desk.press("space", "space")
        await desk.sees(lambda: "2 marked" in desk.text("#group-title"), "marks are counted")
        await desk.press("R")
        await desk.sees(lambda: isinstance(desk.app.screen, Ask), "it asks how many")
        await desk.press("y")
        await desk.sees(lambda: requests_in(graveyard), "it is asked for")
        [request] = requests_in(graveyard)
        assert json.loads(request.args)["letters"] == [12, 13]
        await desk.press("escape")
        assert not desk.rows("#letters").marks


@pytest.mark.parametrize(
    ("keys", "letters"),
    [
        ((), set(range(1, 14))),
        (("down", "tab", "end", "backspace", "3", "enter", "tab", "enter"), {1, 2, 3}),
        (("down", "down", "y"), set(range(1, 15))),
    ],
    ids=["the group", "the oldest three", "all here"],
)
async def test_a_group_its_oldest_few_or_all_are_replayed(
    graveyard: Path, opened: Opened, keys: tuple[str, ...], letters: set[int]
) -> None:
    async with opened(graveyard) as desk:
        await on_letters(desk)
        await desk.press("R")
        await desk.sees(lambda: isinstance(desk.app.screen, Ask), "it asks how many")
        await desk.press(*(keys or ("y",)))
        await desk.sees(lambda: requests_in(graveyard), "it is asked for")
        asked = [
            n for request in requests_in(graveyard) for n in json.loads(request.args)["letters"]
        ]
        assert set(asked) == letters


async def test_a_group_that_shares_words_with_another_is_not_touched(
    graveyard: Path, opened: Opened
) -> None:
    with store(graveyard, "payments") as connection:
        filling.letter(connection, "near", error_type="CardTimeoutTwice", error="CardTimeout again")
    async with opened(graveyard) as desk:
        await on_letters(desk)
        await desk.press("R")
        await desk.sees(lambda: isinstance(desk.app.screen, Ask), "it asks how many")
        await desk.press("y")
        await desk.sees(lambda: requests_in(graveyard), "it is asked for")
        assert 15 not in json.loads(requests_in(graveyard)[0].args)["letters"]


async def test_discarding_one_wants_a_reason(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await on_letters(desk)
        await desk.press("D")
        await desk.sees(lambda: desk.app.screen.query("#reason"), "it asks why")
        assert desk.app.screen.query_one("#yes").disabled
        await desk.type("test order")
        await desk.press("enter", "tab", "enter")
        await desk.sees(lambda: requests_in(shop), "it is asked for")
        [request] = requests_in(shop)
        assert (request.kind, request.reason) == ("dead.discard", "test order")


async def test_discarding_a_group_wants_its_count_typed(graveyard: Path, opened: Opened) -> None:
    async with opened(graveyard) as desk:
        await desk.press("2")
        await desk.sees(lambda: desk.page.name_ == "dead", "the letters open")
        await desk.settles()
        await desk.press("D")
        await desk.sees(lambda: desk.app.screen.query("#typed"), "it asks")
        await desk.type("gone")
        await desk.press("tab")
        await desk.type("12")
        assert desk.app.screen.query_one("#yes").disabled
        await desk.press("backspace")
        await desk.type("3")
        await desk.press("tab", "tab", "enter")
        await desk.sees(lambda: requests_in(graveyard), "it is asked for")
        assert len(json.loads(requests_in(graveyard)[0].args)["letters"]) == 13


async def test_what_became_of_an_operation_is_said(graveyard: Path, opened: Opened) -> None:
    with filling.daemon(graveyard):
        async with opened(graveyard) as desk:
            await on_letters(desk)
            await desk.press("R")
            await desk.sees(lambda: isinstance(desk.app.screen, Ask), "it asks how many")
            await desk.press("y")
            await desk.sees(lambda: "asked for" in desk.said, "it is on its way")
            [request] = requests_in(graveyard)
            with store(graveyard, "payments") as connection:
                for n in range(1, 14):
                    dead.set_state(connection, n, "replaying", None)
            with filling.control_db(graveyard) as connection:
                control.mark(connection, request.id, "applied", "13 letters", filling.now())
            await desk.sees(lambda: "0 of 13 handled, 13 under way" in desk.said, "progress")
            with store(graveyard, "payments") as connection:
                for n in range(1, 13):
                    dead.set_state(connection, n, "replayed", None)
                dead.set_state(connection, 13, "dead", None)
            await desk.sees(lambda: "12 of 13 handled, 1 failed again" in desk.said, "the end")


async def test_a_refusal_is_said(shop: Path, opened: Opened) -> None:
    with filling.daemon(shop):
        async with opened(shop) as desk:
            await on_letters(desk)
            await desk.press("r")
            await desk.sees(lambda: requests_in(shop), "it is asked for")
            with filling.control_db(shop) as connection:
                control.mark(
                    connection, requests_in(shop)[0].id, "refused", "d-1 is replayed", filling.now()
                )
            await desk.sees(lambda: "refused: d-1 is replayed" in desk.said, "it is said")


async def test_ten_thousand_letters_are_asked_for_in_parts(shop: Path, opened: Opened) -> None:
    with store(shop, "payments") as connection:
        for n in range(1200):
            filling.letter(connection, f"client-{n}")
    async with opened(shop) as desk:
        await on_letters(desk)
        assert "the latest 200 of 1,201" in desk.text("#group-title")
        await desk.press("R")
        await desk.sees(lambda: isinstance(desk.app.screen, Ask), "it asks how many")
        await desk.press("y")
        await desk.sees(lambda: len(requests_in(shop)) == 3, "three requests, one operation")
        assert len({request.id.partition(".")[0] for request in requests_in(shop)}) == 1
