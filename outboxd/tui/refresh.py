"""The one thread that reads the files, and what was seen over the last minute.

A monitor is used by one thread; queries never hold up the keys.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from outboxd.clock import Clock
from outboxd.monitor import Flow, Monitor

T = TypeVar("T")

POLL_S = 0.25
"""Between two looks at PRAGMA data_version."""

TICK_S = 1.0
"""Ages move even if nothing else does."""

LEAST_S = 1.0
"""Between two drawings while everything changes: more often costs the runtime's cores, and a
person reads no faster. A change after a rest is shown within ``POLL_S``.
"""

REST = 4
"""A look that took long is followed by so many times its length of rest."""

SECONDS = 60


class Reader:
    """Asks the monitor in its own thread; ``close`` ends that."""

    def __init__(self, data: Path, clock: Clock) -> None:
        self._monitor = Monitor(data, clock)
        self._pool = ThreadPoolExecutor(1, "outboxd-reader")

    async def ask(self, fn: Callable[[Monitor], T]) -> T:
        """What ``fn`` finds; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn, self._monitor)

    def close(self) -> None:
        self._pool.submit(self._monitor.close)
        self._pool.shutdown(wait=True)


class Trend:
    """How much a counter grew in each of the last 60 seconds."""

    def __init__(self) -> None:
        self.values: deque[float] = deque(maxlen=SECONDS)
        self._total: int | None = None
        self._at = 0.0

    def note(self, total: int, at: float) -> None:
        """The counter now; it may start again lower, where a store was restored."""
        passed = at - self._at
        if passed <= 0:
            return
        before, self._total, self._at = self._total, total, at
        if before is None:
            return
        per_s = max(0, total - before) / passed
        self.values.extend([per_s] * min(SECONDS, max(1, round(passed))))

    @property
    def rate(self) -> float:
        """Per second, over the last few seconds."""
        latest = list(self.values)[-5:]
        return sum(latest) / len(latest) if latest else 0.0


class Trends:
    """The counters of a flow over time, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Trend] = {}

    def note(self, flow: Flow) -> None:
        """One look at all counters."""
        at = flow.at.timestamp()
        for sent in flow.sent:
            self[f"{sent.sender}>{sent.to}"].note(sent.total, at)
        for handled in flow.handled:
            self[f"accepted {handled.participant}"].note(handled.accepted, at)
            self[f"done {handled.participant}"].note(handled.done, at)
        self["sent"].note(sum(sent.total for sent in flow.sent), at)
        self["done"].note(sum(handled.done for handled in flow.handled), at)

    def __getitem__(self, name: str) -> Trend:
        return self._by_name.setdefault(name, Trend())
