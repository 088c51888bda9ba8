"""Flow, messages, log, palette and themes: what is there can be seen and found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.widgets import OptionList

from outboxd.tui import keys, text
from outboxd.tui.look import DARK, LIGHT, Plain
from outboxd.tui.widgets.filterline import completed
from tests.cli import filling
from tests.cli.filling import store

from .conftest import Desk, Opened

pytestmark = pytest.mark.anyio


async def opens(desk: Desk, key: str, name: str) -> None:
    await desk.press(key)
    await desk.sees(lambda: desk.page.name_ == name, f"{name} opens")
    await desk.settles()


async def test_each_arrow_says_what_lies_on_it_and_since_when(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await opens(desk, "3", "flow")
        arrows = {line.cells[0][0].strip(): line.cells for line in desk.rows("#arrows").lines}
        assert arrows["inbox → payments  ◆"][2][0] == "3"
        assert arrows["inbox → payments  ◆"][3][0] == "1"
        assert "CardTimeout" in arrows["inbox → payments  ◆"][8][0]
        assert arrows["orders → payments"][2][0] == "1"
        assert arrows["give up → dead letters"][2][0] == "1"
        assert arrows["timers → outbox"][2][0] == "4"
        assert "3 databases" in desk.text("#disk")


async def test_a_rate_is_how_much_a_counter_grew(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        trend = desk.app.trends["done payments"]
        at = desk.app.clock.now()
        trend.note(3, at)
        trend.note(23, at + 1)
        trend.note(43, at + 2)
        assert trend.rate == pytest.approx(20)
        await opens(desk, "3", "flow")
        await desk.sees(
            lambda: any(line.cells[1][0] == "20/s" for line in desk.rows("#arrows").lines),
            "the rate",
        )


async def test_messages_under_way_are_listed_with_what_they_wait_for(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        await opens(desk, "4", "messages")
        assert desk.column("#messages", 2) == ["↻ retrying", "▸ running", "◔ queued", "→ sending"]
        assert "failed there 3 times" in desk.text("#message")
        await desk.press("o")
        await desk.sees(lambda: desk.page.name_ == "saga", "its saga opens")


async def test_messages_are_filtered_by_what_they_are(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await opens(desk, "4", "messages")
        await desk.press("slash")
        await desk.type("state:running,queued !Void")
        await desk.sees(lambda: desk.column("#messages", 1) == ["10530"], "one is left")


async def test_the_log_is_filtered_by_the_saga_one_came_from(shop: Path, opened: Opened) -> None:
    (shop / "log").mkdir()
    head = "2026-11-25 06:33:56,556 level={} logger=outboxd "
    (shop / "log" / "outboxd.log").write_text(
        head.format("INFO") + "attempt_failed id='orders/fulfil/10431#2'\n"
        + (head.format("WARNING") + "message_died letter='d-1' id='orders/fulfil/10431#2'\n") * 3
        + head.format("INFO") + "started\nTraceback …\n"
    )  # fmt: skip
    async with opened(shop) as desk:
        await desk.press("l")
        await desk.sees(lambda: desk.page.name_ == "log", "the log opens")
        await desk.sees(lambda: len(desk.rows("#log").lines) == 2, "only its lines")
        assert desk.column("#log", 2) == ["3×", ""]
        await desk.press("escape")
        await desk.sees(lambda: len(desk.rows("#log").lines) == 3, "all of them")
        await desk.press("enter")
        await desk.sees(lambda: "Traceback" in desk.text("#line"), "the whole line")


async def test_what_operators_asked_for_is_listed(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("r")
        await desk.sees(lambda: "queued" in desk.said, "asked for")
        await opens(desk, "5", "log")
        assert desk.column("#operations", 1) == ["dead.replay"]
        assert desk.column("#operations", 3) == ["◔ pending"]


async def test_the_palette_finds_and_runs_an_action(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        await desk.press("ctrl+p")
        await desk.type("arrow of the data")
        await desk.sees(
            lambda: any(found.option_count == 1 for found in desk.app.screen.query(OptionList)),
            "one is found",
        )
        await desk.press("enter")
        await desk.sees(lambda: getattr(desk.app.screen, "name_", "") == "flow", "the flow opens")


async def test_a_theme_is_a_key_away_and_every_state_keeps_its_word(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        assert desk.app.theme == DARK
        await desk.press("t")
        assert desk.app.theme == LIGHT
        assert desk.column("#sagas", 2)[0] == "✗ stuck"


async def test_nothing_but_ascii_is_drawn_where_that_is_asked_for(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop, is_plain=True) as desk:
        for key in ("1", "2", "3", "4", "5"):
            await desk.press(key)
            await desk.settles()
            svg = desk.app.export_screenshot().replace("\xa0", " ")
            drawn = svg[svg.index("<g") :].replace("&#160;", " ")
            assert drawn.isascii(), {c for c in drawn if not c.isascii()}


async def test_what_is_shown_is_exported_as_json(
    shop: Path, tmp_path: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        await desk.press("w")
        await desk.sees(lambda: "written to" in desk.said, "it is said")
    rows = json.loads((tmp_path / "outboxd-sagas.json").read_text())
    assert rows[0]["key"] == "10431"


async def test_files_that_cannot_be_read_are_said_and_what_was_seen_stays(
    shop: Path, opened: Opened
) -> None:
    async with opened(shop) as desk:
        with store(shop, "orders") as connection:
            connection.execute("ALTER TABLE outboxd_saga RENAME TO gone")
        await desk.sees(lambda: "stale" in desk.text("#status"), "the view says that it is old")
        assert "✗" in desk.said
        assert len(desk.rows("#sagas").lines) == 8
        with store(shop, "orders") as connection:
            connection.execute("ALTER TABLE gone RENAME TO outboxd_saga")
        await desk.sees(lambda: "live" in desk.text("#status"), "it is live again")


def test_no_two_keys_of_a_screen_are_the_same() -> None:
    for screen in keys.EVERYWHERE:
        names = [k for key in keys.of(screen, read_only=False) for k in key.keys.split(",") if k]
        assert len(names) == len(set(names)), screen


def test_what_changes_for_good_is_upper_case_or_safe_to_repeat() -> None:
    safe = {"replay", "retry"}
    for key in keys.TABLE:
        if key.changes:
            assert key.shown.isupper() or key.id in safe, key.id


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("sta", "state:"),
        ("state:s", "state:stuck"),
        ("!state:s", "!state:stuck"),
        ("state:!s", "state:!stuck"),
        ("state:stuck,r", "state:stuck,running"),
        ("state:zebra", None),
        ("zebra", None),
    ],
)
def test_the_last_word_of_a_filter_is_completed(word: str, found: str | None) -> None:
    assert completed(word, {"state": ("stuck", "running"), "type": ("fulfil",)}) == found


def test_a_minute_fits_into_few_bars_and_one_event_is_never_invisible() -> None:
    values = [0.0] * 59 + [1.0]
    assert text.spark(values, 20, top=1000) == text.BARS[0] * 19 + text.BARS[1]
    assert text.spark([], 5) == text.BARS[0] * 5
    assert len(text.spark([1, 2, 3], 10)) == 10


@pytest.mark.parametrize(
    ("span_s", "said"),
    [(0.04, "40ms"), (8.6, "8.6s"), (62, "62s"), (240, "4m"), (7200, "2h"), (432000, "5d")],
)
def test_a_span_is_brief(span_s: float, said: str) -> None:
    assert text.brief(span_s) == said


def test_wide_characters_keep_columns_in_line() -> None:
    assert text.fitted("順序", 6) == "順序  "
    assert text.fitted("順序順序", 6) == "順序 …"
    assert text.fitted("two\nlines", 12) == "two lines   "


def test_plain_characters_are_as_wide_as_glyphs() -> None:
    from rich.segment import Segment
    from textual.color import Color

    [plain] = Plain().apply([Segment("✗ ↻ ▁▂█ …")], Color.parse("black"))
    assert plain.text.isascii()
    assert len(plain.text) == len("✗ ↻ ▁▂█ …")


async def test_a_lost_broker_is_told_and_that_the_work_is_safe(shop: Path, opened: Opened) -> None:
    lost = {"state": "down", "since": filling.now() - 12, "error": "connection refused"}
    with filling.daemon(shop, broker=lost):
        async with opened(shop) as desk:
            assert "broker down 12s" in desk.text("#status")
            assert "safe in the outbox" in desk.text("#status")
            await opens(desk, "3", "flow")
            assert "connection refused" in desk.text("#disk")


async def test_tabs_health_and_footer_can_be_clicked(shop: Path, opened: Opened) -> None:
    async with opened(shop) as desk:
        strip = desk.app.screen.query_one("#strip")
        await desk.pilot.click(strip, offset=(75, 1))
        await desk.sees(lambda: desk.page.name_ == "dead", "DEAD opens the letters")
        await desk.settles()
        await desk.pilot.click("#tabs", offset=(4, 0))
        await desk.sees(lambda: desk.page.name_ == "sagas", "the tab opens the sagas")
        await desk.settles()
        await desk.pilot.click("#sagas", offset=(10, 3))
        assert desk.rows("#sagas").key == "orders/fulfil/10519"
        await desk.pilot.click("#footer", offset=(3, 0))
        await desk.sees(lambda: desk.page.name_ == "saga", "Open opens it")


@pytest.mark.parametrize("size", [(40, 10), (60, 16), (300, 90)])
async def test_any_size_is_drawn(shop: Path, opened: Opened, size: tuple[int, int]) -> None:
    async with opened(shop, size=size) as desk:
        for key in ("2", "3", "4", "5", "1", "enter"):
            await desk.press(key)
            await desk.settles()
        assert desk.page.name_ == "saga"
