"""P2: every way to stop, to start again and to start twice; a file fed twice changes nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.crash import feed
from tests.crash.process import Fate, processes_in, wait_for
from tests.crash.shop import NAMES, Shop, assert_drained, assert_right, open_shop

BOMB = str(Path(feed.__file__).with_name("bomb.py"))

pytestmark = pytest.mark.timeout(300)


def test_feeding_the_same_file_twice_changes_nothing() -> None:
    with open_shop(feed.example(80)) as shop:
        shop.finish()
        before, calls = shop.business(), shop.courier_lines()
        again = shop.finish()
        assert shop.business() == before
        assert shop.courier_lines() == calls
        assert "80 lines, 0 refused" in again.out
        assert_right(shop)


def test_a_second_daemon_on_one_directory_is_refused_and_does_no_harm() -> None:
    with open_shop(feed.example(60)) as shop:
        first = shop.run(until_idle=False)
        wait_for((shop.data / "daemon.json").exists, "a running daemon", first)
        second = shop.run().ended()
        assert second.code == 4, second
        [error] = [line for line in second.err.splitlines() if line.startswith("error:")]
        assert f"another outboxd (pid {first.process.pid}) runs on {shop.data}" in error
        first.signal(signal.SIGTERM)
        shop.ends_cleanly(first)
        shop.finish()
        assert_right(shop)


def test_a_signal_drains_at_any_moment(storm: int) -> None:
    """Exit 0, no broker left, nobody suspect though work was under way; the next run ends it."""
    fate = Fate(900)
    with open_shop(feed.example(60)) as shop:
        for moment in ["start", "work", "work"] * storm:
            run = shop.run()
            wait_for(lambda run=run: shop.holder() == run.process.pid, "its lock", run)  # type: ignore[misc]
            if moment == "start":
                fate.await_start(run)
            else:
                fate.await_progress(run, shop.progress, 40)
            run.signal(fate.rng.choice([signal.SIGTERM, signal.SIGINT]))
            ended = shop.ends_cleanly(run)
            assert "Traceback" not in ended.err
            assert not suspects(shop), fate
        shop.finish()
        assert_right(shop, fate)
        assert_drained(shop)


def test_a_signal_after_the_end_makes_no_failure_of_it() -> None:
    """A supervisor that stops what has just ended by itself reads 0, not a death by its signal."""
    with open_shop([]) as shop:
        late = shop.folder / "late.py"
        late.write_text(
            "import atexit, os, signal\n"
            "atexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
            "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
            "from outboxd import Participant\n"
            "late = Participant('late')\n"
        )
        shop.plugins = [str(late)]
        assert "nothing is under way" in shop.finish().out


def test_a_kill_while_it_drains_is_one_like_any_other(storm: int) -> None:
    fate = Fate(901)
    with open_shop(feed.example(60)) as shop:
        for _ in range(2 * storm):
            run = shop.run()
            fate.await_progress(run, shop.progress, 40)
            run.signal(signal.SIGTERM)
            fate.await_start(run, 0.1)
            run.kill()
        shop.finish()
        assert_right(shop, fate)
        assert_drained(shop)


def test_what_was_sent_while_outboxd_died_is_done(storm: int) -> None:
    """``send`` is durable when it returns, whether anybody is there to read it."""
    fate = Fate(902)
    orders = [feed.order(n) for n in range(4 * storm)]
    with open_shop([feed.line(order) for order in orders]) as shop:
        run = shop.run(until_idle=False, is_fed=False)
        wait_for((shop.data / "daemon.json").exists, "a running daemon", run)
        for number, order in enumerate(orders):
            if number % 2:
                fate.await_start(run, 0.5)
                run.kill()
            sent = shop.outboxd("send", "PlaceOrder", json.dumps(order))
            assert sent.code == 0, sent
            if number % 4 == 3:
                run = shop.run(until_idle=False, is_fed=False)
        run.kill()
        ended = shop.ends_cleanly(shop.run(is_fed=False))
        assert f"{len(orders)} completed" in ended.out
        assert_right(shop, fate)


def test_a_kill_is_known_at_once() -> None:
    """Not only when the daemon has been silent for a while."""
    with open_shop([]) as shop:
        run = shop.run(until_idle=False, is_fed=False)
        wait_for(lambda: shop.outboxd("status", "--check").code == 0, "a healthy status", run)
        run.kill()
        status = shop.outboxd("status", "--check")
        assert status.code == 1, status
        assert "the daemon does not run" in status.out


def suspects(shop: Shop) -> list[tuple[object, ...]]:
    """Rows that only a crash leaves."""
    query = (
        "SELECT id, state, crashes FROM outboxd_inbox WHERE is_suspect OR crashes"
        " OR state = 'running'"
    )
    return [row for name in NAMES for row in shop.rows(name, query)]


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing() -> None:
    lines = [*feed.example(30), feed.line({"n": "slow"}, "Linger")]
    with open_shop(lines) as shop:
        shop.plugins.append(BOMB)
        shop.env["LINGER_UNTIL"] = str(shop.folder / "enough")
        run = shop.run()
        wait_for((shop.folder / "begun").exists, "a handler at work", run)
        run.signal(signal.SIGINT)
        run.says("stopping, 1 in hand, 10 s; again to stop now")
        run.signal(signal.SIGINT)
        assert run.ended().code == 130
        wait_for(lambda: not processes_in(shop.folder), "the end of the broker")
        (shop.folder / "enough").touch()
        shop.finish()
        assert shop.rows("bomb", "SELECT n FROM seen") == [("slow",)]
        assert_right(shop)
