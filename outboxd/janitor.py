"""What grows is cut back: acked entries of streams, and rows whose retention is over."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio

from .clock import Clock
from .errors import Unavailable
from .store.retention import KEEP_S, Pruned
from .stream import Stream

log = logging.getLogger("outboxd")

TRIM_S = 5.0
PRUNE_S = 60.0
RETAIN_S = 300.0
"""Events are kept for so long after all have read them, for a subscriber that comes later."""

PAUSE = 1.0
"""Between two parts of a long pruning as long as the part took: half of the time is others'."""


class Janitor:
    """Trims the streams and prunes the databases of one process.

    Rows go KEEP_S after they ended. A foreign message from before that is a dead letter when it
    comes ("too old"), for its id may have been forgotten; a key may be used anew, for nothing that
    a new saga sends has the id of what a forgotten one has sent. ``prunes``: each removes a part.
    """

    def __init__(
        self,
        streams: Sequence[str],
        prunes: Sequence[Callable[[float], Awaitable[Pruned]]],
        clock: Clock,
    ) -> None:
        self._streams = streams
        self._prunes = prunes
        self._clock = clock

    async def run(self, stream: Stream) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_pruning)
            while True:
                await anyio.sleep(TRIM_S)
                await self.trim(stream)

    async def trim(self, stream: Stream) -> None:
        """Removes what every group has acked, never by length and never entry by entry."""
        kept = b"%d-0" % int((self._clock.now() - RETAIN_S) * 1000)
        for name in self._streams:
            try:
                await stream.trim(name, keep_after=kept if name.endswith(":events") else None)
            except Unavailable:
                return

    async def prune(self) -> None:
        """Removes all that is old, in parts."""
        before = self._clock.now() - KEEP_S
        for prune in self._prunes:
            try:
                rows = await self._prune(prune, before)
            except Unavailable as err:
                log.warning("prune_failed error=%r", str(err))
                continue
            if rows:
                log.info("pruned rows=%d", rows)

    async def _keep_pruning(self) -> None:
        """From the start on: also a process that never lives for long prunes."""
        while True:
            await self.prune()
            await anyio.sleep(PRUNE_S)

    async def _prune(self, prune: Callable[[float], Awaitable[Pruned]], before: float) -> int:
        rows = 0
        while True:
            began = anyio.current_time()
            found = await prune(before)
            rows += found.rows
            if not found.is_more:
                return rows
            await anyio.sleep((anyio.current_time() - began) * PAUSE)
