"""P2, P4: outboxd dies at any moment, the same command is given again, and every order is right."""

from __future__ import annotations

import shutil

import pytest

from tests.crash import blows, feed
from tests.crash.process import Fate, Run, wait_for
from tests.crash.shop import Shop, assert_drained, assert_right, open_shop

KILLS = 6

pytestmark = pytest.mark.timeout(900)


def await_a_moment(fate: Fate, shop: Shop, run: Run) -> None:
    """One time in three near the start, else somewhere in the work."""
    if fate.rng.random() < 1 / 3:
        fate.await_start(run)
    else:
        fate.await_progress(run, shop.progress, 100)


def test_the_example_ends_as_its_readme_says() -> None:
    with open_shop() as shop:
        ended = shop.finish()
        assert "288 started, 241 completed, 47 compensated" in ended.out
        assert "1 dead" in ended.out
        assert "300 lines, 2 refused" in ended.out
        assert_right(shop)
        assert_drained(shop)
        audit = shop.outboxd("audit", *shop.plugins)
        assert audit.code == 0, audit


def test_outboxd_is_killed_at_random_moments(storm: int) -> None:
    for seed in range(storm):
        fate = Fate(seed)
        with open_shop() as shop:
            for _ in range(KILLS):
                run = shop.run()
                await_a_moment(fate, shop, run)
                run.kill()
            shop.finish()
            assert_right(shop, fate)
            assert_drained(shop)


def test_outboxd_and_its_broker_are_killed_together(storm: int) -> None:
    """Every second time the broker's whole folder is gone as well."""
    for seed in range(storm):
        fate = Fate(100 + seed)
        with open_shop(feed.example(60)) as shop:
            for is_folder_lost in [True, False, True, False]:
                run = shop.run()
                await_a_moment(fate, shop, run)
                if fate.rng.random() < 0.5:
                    blows.kill_broker(shop)
                run.kill()
                blows.kill_broker(shop)
                if is_folder_lost:
                    shutil.rmtree(shop.data / "broker", ignore_errors=True)
            shop.finish()
            assert_right(shop, fate)
            assert_drained(shop)


def test_the_broker_of_a_killed_outboxd_is_adopted() -> None:
    fate = Fate(300)
    with open_shop(feed.example(40)) as shop:
        run = shop.run()
        fate.await_progress(run, shop.progress, 10)
        run.kill()
        broker = shop.broker_pid()
        assert broker is not None
        run = shop.run()
        wait_for(lambda: f"broker_adopted pid={broker}" in shop.log(), "the adoption")
        assert shop.broker_pid() == broker
        shop.ends_cleanly(run)
        assert shop.broker_pid() is None
        assert_right(shop, fate)
