"""The broker as one process sees it: embedded or elsewhere, up or down, said once.

It starts and tends the embedded server, connects, and reports outages; what needs the broker heals
by itself and only tells of it here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from . import datadir
from .embedded import Embedded
from .errors import Unavailable
from .redis_stream import RedisStream
from .stream import Stream
from .wake import Outage

log = logging.getLogger("outboxd")

TEND_S = 0.25


class Broker:
    """``error``: why it is unreachable, or None while it answers."""

    def __init__(self, data: Path, url: str | None, given: Stream | None) -> None:
        self.error: str | None = None
        self.embedded = Embedded(data) if url is None and given is None else None
        self._data = data
        self._url = url
        self._given = given

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Stream]:
        """The stream to use; the embedded server is stopped last."""
        if self._given is not None:
            yield self._given
            return
        url = self._url or ""
        if self.embedded is not None:
            with datadir.room(self._data):
                url = await self.embedded.start()
        stream = RedisStream(url)
        try:
            yield stream
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
                if self.embedded is not None:
                    await self.embedded.stop()

    async def connect(
        self, stream: Stream, claim: Callable[[], Awaitable[None]], waiting: Callable[[], None]
    ) -> None:
        """Returns once the broker answers and ``claim`` went through; ``waiting`` if that takes.

        Raises ConfigError for a broker that cannot do the work, and what ``claim`` raises.
        """
        outage = Outage()
        while True:
            try:
                await stream.connect()
                await claim()
                self.note(None)
                return
            except Unavailable as err:
                outage.failed()
                self.note(str(err))
                waiting()
                await anyio.sleep(outage.pause_s)

    async def tend(self) -> None:
        """Restarts the embedded server when it has died."""
        if self.embedded is not None:
            try:
                await self.embedded.ensure()
            except Unavailable as err:
                self.note(str(err))

    def note(self, error: str | None) -> None:
        """Says so once when the broker goes, and once when it is back."""
        if error is not None and self.error is None:
            log.warning("broker unreachable, retrying; committed work is safe: %s", error)
        elif error is None and self.error is not None:
            log.warning("broker is back")
        self.error = error if self.error is None or error is None else self.error
