"""Other keys than the dashboard's own, by the file of settings; what cannot be is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import settings
from outboxd.errors import ConfigError
from outboxd.tui.keys import rebound

from .conftest import Opened

pytestmark = pytest.mark.anyio


def configured(text: str) -> settings.Settings:
    Path("outboxd.toml").write_text(text)
    return settings.load(environ={})


async def test_a_key_of_ones_own_works_and_is_shown(shop: Path, opened: Opened) -> None:
    table = rebound(configured('[keys]\nfreeze = "z"\nlog = "f5"\n').keys)
    async with opened(shop, table=table) as desk:
        await desk.press("f")
        assert "FROZEN" not in desk.text("#status")
        await desk.press("z")
        assert "FROZEN" in desk.text("#status")
        await desk.press("question_mark")
        await desk.sees(lambda: desk.app.screen.query("#keys"), "help opens")
        await desk.type("freeze")
        assert desk.column("#keys", 0) == ["z"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"freze": "z"}, "did you mean 'freeze'?"),
        ({"freeze": "s"}, "'s' would be both 'sort' and 'freeze'"),
        ({"freeze": "j"}, "'j' would be both what moves the cursor and 'freeze'"),
        ({"freeze": "/"}, "'/' would be both 'filter' and 'freeze'"),
    ],
)
def test_what_cannot_be_pressed_is_said_at_the_start(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        rebound(given)
    assert said in f"{raised.value.message} {raised.value.hint}"


def test_two_actions_can_change_places() -> None:
    keys = {key.id: key.keys for key in rebound({"sort": "f", "freeze": "s"})}
    assert (keys["sort"], keys["freeze"]) == ("f", "s")


def test_a_table_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="no table of texts"):
        configured('keys = "z"\n')
