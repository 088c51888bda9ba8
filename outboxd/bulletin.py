"""What the process says of itself once a second, in a file beside the databases.

``status``, the dashboard and a health check read it without asking the process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import anyio

from . import datadir
from .broker import Broker
from .clock import Clock
from .hosted import Hosted

log = logging.getLogger("outboxd")

STATUS_S = 1.0


class Bulletin:
    """The process's own file; ``run`` writes it until cancelled. ``version``: of outboxd."""

    def __init__(
        self,
        data: Path,
        hosted: Mapping[str, Hosted],
        broker: Broker,
        clock: Clock,
        version: str,
    ) -> None:
        self._data = data
        self._hosted = hosted
        self._broker = broker
        self._clock = clock
        self._version = version
        self._started_at = clock.now()

    async def run(self, node: str, where: str) -> None:
        """``where``: the address of the broker."""
        since, was_error = self._clock.now(), self._broker.error
        is_written = True
        while True:
            if self._broker.error != was_error:
                since, was_error = self._clock.now(), self._broker.error
            try:
                datadir.write_status(self._data, self._said(node, where, since))
                is_written = True
            except OSError as err:
                if is_written:
                    log.warning("status_not_written error=%r", str(err))
                is_written = False
            await anyio.sleep(STATUS_S)

    def _said(self, node: str, where: str, since: float) -> dict[str, object]:
        error = self._broker.error
        return {
            "pid": os.getpid(),
            "node": node,
            "started_at": self._started_at,
            "at": self._clock.now(),
            "version": self._version,
            "redis": where,
            "broker": {"state": "up" if error is None else "down", "since": since, "error": error},
            "participants": list(self._hosted),
            "problems": [p for h in self._hosted.values() for p in h.problems],
        }
