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
        self._logged: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            for store in self._stores:
                self._look(store)

    def _look(self, store: Database) -> None:
        busy = store.busy
        if busy is None or busy.for_s() < LOG_S:
            return
        if self._logged.get(store.path.name) != busy.since:
            self._logged[store.path.name] = busy.since
            frame = sys._current_frames().get(busy.thread)
            stack = "".join(traceback.format_stack(frame)) if frame else "(gone)"
            log.error(
                "handler_hangs store=%s seconds=%.0f\n%s", store.path.name, busy.for_s(), stack
            )
        if busy.for_s() > LIMIT_S:
            log.critical("handler_never_returns store=%s exit=%d", store.path.name, EXIT_CODE)
            logging.shutdown()
            os._exit(EXIT_CODE)
