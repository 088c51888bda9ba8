"""P9: a message that kills or hangs the process is convicted, alone, and nothing else is held."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import feed
from tests.crash.bomb import DEATH
from tests.crash.process import Ended
from tests.crash.shop import NAMES, Shop, assert_right, open_shop

BOMB = str(Path(feed.__file__).with_name("bomb.py"))
GOOD = [f"good{n}" for n in range(6)]

RESTARTS = 12
"""Five deaths convict; finding out who was running takes a few more."""

FEW = 6
"""The same with a limit of two deaths."""

pytestmark = pytest.mark.timeout(300)


def armed(shop: Shop, type_name: str, **data: str) -> None:
    """Puts the bad message into the middle of good ones, and all of them among the orders."""
    bombs = [bomb(n, type_name, **data) for n in [*GOOD[:3], "bad", *GOOD[3:]]]
    lines = shop.feed.read_text(encoding="utf-8").split("\n")
    middle = len(lines) // 2
    shop.feed.write_text("\n".join([*lines[:middle], *bombs, *lines[middle:]]), encoding="utf-8")
    shop.plugins.append(BOMB)


def bomb(n: str, type_name: str, **data: str) -> str:
    """A line of a feed."""
    return json.dumps({"type": type_name, "id": n, "data": {"n": n, **data}})


@pytest.fixture
def alone() -> Iterator[Shop]:
    """Without a shop, and impatient: two deaths convict, and a second is for ever."""
    with open_shop([]) as shop:
        shop.command = [sys.executable, "-m", "tests.crash.impatient"]
        shop.plugins = []
        yield shop


def restarted(shop: Shop, code: int, most: int) -> tuple[int, Ended]:
    """Starts the command again whenever it dies with ``code``; how often, and how it ended."""
    for times in range(most + 1):
        ended = shop.run().ended()
        assert "this is a bug in outboxd" not in ended.err, ended
        if ended.code != code:
            return times, ended
    raise AssertionError(f"died {most + 1} times:\n{ended}\n{held(shop)}")


def held(shop: Shop) -> list[object]:
    query = "SELECT id, state, is_suspect, attempts, crashes FROM outboxd_inbox"
    return [(name, row) for name in ("fuse", "bomb", *NAMES) for row in shop.rows(name, query)]


def convicted(shop: Shop) -> set[str]:
    """Keys of dead letters and of stuck sagas, wherever they are, but for mails."""
    dead = "SELECT key FROM outboxd_dead WHERE state = 'dead'"
    stuck = "SELECT key FROM outboxd_saga WHERE state = 'stuck'"
    names = ("fuse", "bomb", *NAMES[:-1])
    return {row[0] for name in names for query in (dead, stuck) for row in shop.rows(name, query)}


def seen(shop: Shop) -> list[str]:
    return sorted(row[0] for row in shop.rows("bomb", "SELECT n FROM seen"))


def assert_only_the_culprit(shop: Shop) -> None:
    assert seen(shop) == GOOD
    assert convicted(shop) - {"one"} == {"bad"}
    assert not held(shop)


def test_five_deaths_convict_the_message_and_nobody_else() -> None:
    with open_shop(feed.example(60)) as shop:
        armed(shop, "Light", at="def")
        times, ended = restarted(shop, DEATH, RESTARTS)
        assert times >= 5
        assert ended.code == 1, ended
        assert "the process ended 5 times while this message ran" in ended.err
        assert_only_the_culprit(shop)
        assert_right(shop)


def test_a_convicted_message_is_replayed_after_the_fix(alone: Shop) -> None:
    armed(alone, "Light", at="async")
    restarted(alone, DEATH, FEW)
    assert_only_the_culprit(alone)
    alone.env["DEFUSED"] = "1"
    replay = alone.outboxd("dead", "replay", "d-1", "--yes")
    assert replay.code == 0, replay
    alone.finish()
    assert seen(alone) == sorted(["bad", *GOOD])
    assert not convicted(alone)


@pytest.mark.parametrize("at", ["async", "lane"])
def test_a_called_handler_that_kills_is_found(alone: Shop, at: str) -> None:
    armed(alone, "Light", at=at)
    _, ended = restarted(alone, DEATH, FEW)
    assert ended.code == 1, ended
    assert_only_the_culprit(alone)


@pytest.mark.parametrize("at", ["start", "timer", "reply"])
def test_saga_code_that_kills_is_found_and_compensates_nothing(alone: Shop, at: str) -> None:
    armed(alone, "Light", at=at)
    restarted(alone, DEATH, FEW)
    states = {row[0]: row[1] for row in alone.rows("fuse", "SELECT key, state FROM outboxd_saga")}
    assert states.pop("bad", "stuck") == "stuck"
    assert states == dict.fromkeys(GOOD, "completed")
    assert convicted(alone) == {"bad"}


@pytest.mark.parametrize("type_name", ["Explode", "ExplodeOutside"])
def test_a_line_of_a_feed_that_kills_is_found(alone: Shop, type_name: str) -> None:
    armed(alone, type_name)
    _, ended = restarted(alone, DEATH, FEW)
    assert ended.code == 0, ended
    assert_only_the_culprit(alone)


def test_what_waits_behind_another_and_kills_in_its_turn_is_found(alone: Shop) -> None:
    alone.plugins.append(BOMB)
    lines = [bomb(n, "ExplodeLater") for n in ("first", "bad", "after")]
    alone.feed.write_text("\n".join(lines) + "\n")
    restarted(alone, DEATH, FEW)
    assert convicted(alone) == {"one"}
    assert seen(alone) == ["after", "first"]


def test_a_sent_command_that_kills_is_found(alone: Shop) -> None:
    alone.plugins.append(BOMB)
    alone.feed.write_text("\n".join(bomb(n, "Explode") for n in GOOD) + "\n")
    alone.finish()
    sent = alone.outboxd("send", "Explode", '{"n": "bad"}')
    assert sent.code == 0, sent
    _, ended = restarted(alone, DEATH, FEW)
    assert ended.code == 0, ended
    assert_only_the_culprit(alone)


def test_a_handler_that_never_returns_ends_the_process_and_is_convicted(alone: Shop) -> None:
    armed(alone, "Stall")
    first = alone.run().ended()
    assert first.code == 70, first
    assert "handler_never_returns store=bomb.db" in first.err
    assert "in stall" in alone.log(), "its stack is in the log"
    _, ended = restarted(alone, 70, FEW)
    assert ended.code == 0, ended
    assert_only_the_culprit(alone)


def test_an_async_handler_that_hangs_times_out_beside_all_others() -> None:
    with open_shop(feed.example(60)) as shop:
        armed(shop, "Hang")
        ended = shop.finish()
        assert "TimeoutError: bomb.hang was not done within 0.3 s" in ended.err
        assert_only_the_culprit(shop)
        assert_right(shop)
