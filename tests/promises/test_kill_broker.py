"""P3: the broker dies, hangs, and loses any part of its data, while outboxd works on."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

import pytest

from tests.crash import blows, feed
from tests.crash.blows import Blow
from tests.crash.process import Fate, Run, wait_for
from tests.crash.shop import Shop, assert_right, open_shop, stop_when_drained

BLOWS = 2

pytestmark = pytest.mark.timeout(900)

LOSSES = [
    blows.flushall,
    blows.xtrim,
    blows.xdel,
    blows.xgroup_destroy,
    blows.del_hashes,
    blows.client_kill,
]


Strike = Callable[[Shop, Run], None]


def struck(seed: int, strike: Strike, times: int, lines: int = 50) -> None:
    """One run, struck again and again as it gets on, and nobody does anything about it."""
    fate = Fate(seed)
    with open_shop(feed.example(lines)) as shop:
        run = shop.run(until_idle=False)
        for _ in range(times):
            fate.await_progress(run, shop.progress, 2 * lines // (times + 1))
            strike(shop, run)
        ended = stop_when_drained(shop, run)
        assert "Traceback" not in ended.err
        assert_right(shop, fate)


def test_the_broker_is_killed_at_random_moments(storm: int) -> None:
    for seed in range(storm):
        struck(seed, blows.kill_broker, BLOWS + 1, 100)


@pytest.mark.parametrize("blow", LOSSES)
def test_the_broker_loses_data_or_clients(blow: Blow, storm: int) -> None:
    for seed in range(storm):
        struck(seed, lambda shop, run: blows.strike(shop, run, blow), BLOWS)


def test_the_broker_wakes_up_with_old_data(storm: int) -> None:
    for seed in range(storm):
        struck(seed, blows.rewind, 4)


def test_everything_at_once(storm: int) -> None:
    """Losses of every kind in one run, in an order drawn by lot, and kill -9 among them."""
    for seed in range(storm):
        lots = random.Random(seed)
        struck(500 + seed, by_lot(lots), 6, 100)


def by_lot(lots: random.Random) -> Strike:
    """Another strike each time."""

    def strike(shop: Shop, run: Run) -> None:
        if lots.random() < 0.2:
            blows.kill_broker(shop)
        else:
            blows.strike(shop, run, lots.choice(LOSSES))

    return strike


def test_a_broker_that_hangs_is_reported_once_and_waited_for() -> None:
    fate = Fate(600)
    with open_shop(feed.example(60)) as shop:
        run = shop.run(until_idle=False)
        fate.await_progress(run, shop.progress, 60)
        shop.signal_broker(signal.SIGSTOP)
        run.says("broker unreachable")
        wait_for(lambda: shop.outboxd("status", "--check").code == 1, "an unhealthy status", run)
        reached = shop.ended_sagas()
        shop.signal_broker(signal.SIGCONT)
        run.says("broker is back")
        ended = stop_when_drained(shop, run)
        assert ended.err.count("broker unreachable") == 1, ended
        assert shop.ended_sagas() > reached
        assert_right(shop, fate)
