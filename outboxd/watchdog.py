"""A handler that does not return: its stack is logged, and in the end the process ends on purpose.

A thread cannot be stopped from outside. So past the limit the process exits with code 70; the
message is a suspect at the next start, and after a few such ends a dead letter.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

import anyio

from .store.connection import Database

log = logging.getLogger("outboxd")

LOG_S = 5.0
LIMIT_S = 30.0
LOOK_S = 0.5
EXIT_CODE = 70


class Watchdog:
    """Watches the writer lanes of all databases of the process."""

    def __init__(self, stores: Sequence[Database]) -> None:
        self._stores = stores
        self._seen: dict[str, tuple[float, int]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            for store in self._stores:
                self._look(store)

    def _look(self, store: Database) -> None:
        busy, name = store.busy, store.path.name
        if busy is None:
            return
        since, looks = self._seen.get(name, (0.0, 0))
        looks = looks + 1 if since == busy.since else 1
        self._seen[name] = busy.since, looks
        # Counted, not read from a clock: while a process was stopped its handlers did nothing.
        busy_s = looks * LOOK_S
        if busy_s >= LOG_S > busy_s - LOOK_S:
            frame = sys._current_frames().get(busy.thread)
            stack = "".join(traceback.format_stack(frame)) if frame else "(gone)"
            log.error("handler_hangs store=%s seconds=%.0f\n%s", name, busy_s, stack)
        if busy_s > LIMIT_S:
            log.critical("handler_never_returns store=%s exit=%d", name, EXIT_CODE)
            logging.shutdown()
            os._exit(EXIT_CODE)
