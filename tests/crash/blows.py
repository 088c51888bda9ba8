"""What strangers and accidents do to a broker."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable
from typing import Any

import redis

from tests.crash.process import Run, is_alive, wait_for
from tests.crash.shop import Shop, streams_of

Blow = Callable[[redis.Redis], None]


def flushall(broker: redis.Redis) -> None:
    broker.flushall()


def xtrim(broker: redis.Redis) -> None:
    for key in streams_of(broker):
        broker.xtrim(key, maxlen=0, approximate=False)


def xdel(broker: redis.Redis) -> None:
    """One entry after another, every second one: holes."""
    for key in streams_of(broker):
        entries: list[Any] = broker.xrange(key) or []
        for entry_id, _ in entries[::2]:
            broker.xdel(key, entry_id)


def xgroup_destroy(broker: redis.Redis) -> None:
    for key in streams_of(broker):
        for group in broker.xinfo_groups(key):
            broker.xgroup_destroy(key, group["name"])


def del_hashes(broker: redis.Redis) -> None:
    """What the receivers hold, and how far each store has published."""
    for key in broker.scan_iter("outboxd:*", _type="hash"):
        broker.delete(key)


def client_kill(broker: redis.Redis) -> None:
    for _ in range(5):
        broker.client_kill_filter(_type="normal", skipme=True)


def strike(shop: Shop, run: Run, blow: Blow) -> None:
    """A blow to the broker while outboxd stands still: what is on its way is hit for certain.

    Nothing where the broker is away, or goes meanwhile.
    """
    run.signal(signal.SIGSTOP)
    try:
        if shop.socket.exists():
            with contextlib.suppress(redis.RedisError), shop.stranger() as broker:
                blow(broker)
    finally:
        run.signal(signal.SIGCONT)


def rewind(shop: Shop, run: Run) -> None:
    """Every second time the broker wakes up with the data that it had the time before.

    So does a failover to a stale replica.
    """
    files, stale = shop.data / "broker" / "appendonlydir", shop.folder / "stale"
    run.signal(signal.SIGSTOP)
    try:
        if stale.exists():
            pid = shop.broker_pid()
            kill_broker(shop)
            wait_for(lambda: pid is None or not is_alive(pid), "the end of the broker")
            shutil.rmtree(files, ignore_errors=True)
            stale.rename(files)
        elif files.exists():
            shutil.copytree(files, stale)
    finally:
        run.signal(signal.SIGCONT)


def kill_broker(shop: Shop, _: object = None) -> None:
    """kill -9 by its pid file."""
    shop.signal_broker(signal.SIGKILL)
