"""What grows is cut back: acked entries of streams, and rows whose retention is over."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio

from .clock import Clock
from .errors import Unavailable
from .retry import DAY_S
from .stream import Stream

log = logging.getLogger("outboxd")

TRIM_S = 5.0
PRUNE_S = 600.0
RETAIN_S = 300.0
"""Events are kept for so long after all have read them, for a subscriber that comes later."""

KEEP_S = 30 * DAY_S
"""How long finished sagas, fences and seen foreign ids are kept; older foreign ids are refused."""


class Janitor:
    """Trims the streams and prunes the databases of one process."""

    def __init__(
        self,
        streams: Sequence[str],
        prunes: Sequence[Callable[[float], Awaitable[int]]],
        clock: Clock,
    ) -> None:
        self._streams = streams
        self._prunes = prunes
        self._clock = clock

    async def run(self, stream: Stream) -> None:
        """Until cancelled."""
        pruned_at = self._clock.monotonic()
        while True:
            await anyio.sleep(TRIM_S)
            await self.trim(stream)
            if self._clock.monotonic() - pruned_at >= PRUNE_S:
                pruned_at = self._clock.monotonic()
                await self._prune()

    async def trim(self, stream: Stream) -> None:
        """Removes what every group has acked, never by length and never entry by entry."""
        kept = b"%d-0" % int((self._clock.now() - RETAIN_S) * 1000)
        for name in self._streams:
            try:
                await stream.trim(name, keep_after=kept if name.endswith(":events") else None)
            except Unavailable:
                return

    async def _prune(self) -> None:
        before = self._clock.now() - KEEP_S
        for prune in self._prunes:
            try:
                removed = await prune(before)
            except Unavailable as err:
                log.warning("prune_failed error=%r", str(err))
                continue
            if removed:
                log.info("pruned rows=%d", removed)
