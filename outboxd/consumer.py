"""Stream → delivery → ack after commit: one reader for one stream of one participant.

Own pending entries are read before new ones after every start, error and reconnect, so that a lost
reply is no lost message. After an unclean stop they are suspects. Entries that another consumer
name left behind are claimed, with a cursor that is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus

from .clock import Clock
from .committer import Committer
from .delivery import Delivery
from .errors import StoreBroken, Unavailable
from .quarantine import Quarantine
from .stream import Entry, NoGroup, Stream
from .wake import Outage

log = logging.getLogger("outboxd")

COUNT = 200
"""Entries per batch: one transaction and one sync of the disk for all of them."""

BLOCK_S = 1.0
PAUSED_S = 0.1

CLAIM_IDLE_S = 60.0
"""Entries untouched for so long are of a consumer that is gone: ours are acked in milliseconds."""


class Consumer:
    """Reads one stream until cancelled.

    ``is_caught_up``: it has read to where the stream ended; ``cut_at`` (UTC seconds): since when it
    could not, also over a restart; ``count``: entries per batch. ``run`` waits and heals; what it
    calls waits for nothing but broker and database, and so serves the simulator as well.
    """

    def __init__(
        self,
        source: str,
        delivery: Delivery,
        committer: Committer,
        stream: Stream,
        node: str,
        clock: Clock,
        *,
        are_suspect: bool,
        cut_at: float | None,
        quarantine: Quarantine,
        on_outage: Callable[[str | None], None],
        count: int = COUNT,
    ) -> None:
        self.source = source
        self.is_caught_up = False
        self.cut_at = cut_at
        self._delivery = delivery
        self._committer = committer
        self._stream = stream
        self._node = node
        self._clock = clock
        self._are_suspect = are_suspect
        self._quarantine = quarantine
        self._on_outage = on_outage
        self.count = count
        self._claim_at = 0.0
        self._cursor = b"0-0"

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Connects, heals and reads; a broker or a disk that is away is waited for."""
        task_status.started()
        outage = Outage()
        while True:
            try:
                await self.heal()
                await self.drain_own()
                if outage.is_over():
                    self._on_outage(None)
                while True:
                    await self._quarantine.until_clear()
                    if await self._was_paused():
                        await self.drain_own()
                    await self.read_new()
            except NoGroup:
                log.warning("group_recreated stream=%s", self.source)
                outage.failed()
                await anyio.sleep(min(outage.pause_s, 0.2))
            except Unavailable as err:
                self._cut()
                outage.failed()
                if outage.failures == 1 and not isinstance(err, StoreBroken):
                    self._on_outage(str(err))
                await anyio.sleep(outage.pause_s)

    async def _was_paused(self) -> bool:
        """While its participant is paused nothing is read; deadlines get that time back."""
        was_paused = False
        while self._delivery.paused is not None:
            was_paused = True
            self._cut()
            await anyio.sleep(PAUSED_S)
        return was_paused

    def _cut(self) -> None:
        self.is_caught_up = False
        if self.cut_at is None:
            self.cut_at = self._delivery.clock.now()

    async def heal(self) -> None:
        """The group is there, at the stream's start; the broker knows what we hold."""
        await self._stream.ensure(self.source, self._delivery.name)
        outcome = await self._committer.commit(self._delivery.reports)
        await self._stream.ack(
            self.source, self._delivery.name, [], self._delivery.name, outcome.accepted
        )

    async def drain_own(self) -> None:
        """Takes what was read and not acked before."""
        after = b"0"
        while entries := await self._read(own=after):
            await self._take(entries, are_suspect=self._are_suspect)
            after = entries[-1].id
        self._are_suspect = False

    async def read_new(self) -> None:
        """Takes what comes next, if anything does before long."""
        entries = await self._read(own=None)
        if self._delivery.paused is not None:  # meanwhile: they are our own, and read again
            return
        if entries:
            await self._take(entries, are_suspect=False)
        if len(entries) < self.count and not self.is_caught_up:
            await self._catch_up()
        if self._clock.monotonic() >= self._claim_at:
            await self._claim()

    async def _catch_up(self) -> None:
        """What answers there were have been read: calls get back the time they were cut off."""
        if self.cut_at is not None:
            gap_s = max(0.0, self._delivery.clock.now() - self.cut_at)
            await self._committer.database.write(lambda cx: self._delivery.forgive(cx, gap_s))
            self.cut_at = None
        self.is_caught_up = True

    async def _read(self, own: bytes | None) -> list[Entry]:
        return await self._stream.read(
            self.source,
            self._delivery.name,
            self._node,
            count=self.count,
            block_s=BLOCK_S if own is None else None,
            own=own,
        )

    async def _take(self, entries: list[Entry], *, are_suspect: bool) -> None:
        """Commits a batch, then acks it: a crash in between redelivers, the numbers drop it."""
        while entries:
            bodies = [entry.body for entry in entries]
            outcome = await self._committer.commit(
                lambda cx, b=bodies: self._delivery.accept(cx, b, are_suspect=are_suspect)  # type: ignore[misc]
            )
            done, entries = entries[: outcome.taken], entries[outcome.taken :]
            await self._stream.ack(
                self.source,
                self._delivery.name,
                [entry.id for entry in done],
                self._delivery.name,
                outcome.accepted,
            )

    async def _claim(self) -> None:
        """Takes over what was delivered to a consumer that is gone, page by page."""
        claimed = await self._stream.claim(
            self.source,
            self._delivery.name,
            self._node,
            min_idle_s=CLAIM_IDLE_S,
            cursor=self._cursor,
            count=self.count,
        )
        if claimed.entries:
            await self._take(claimed.entries, are_suspect=True)
        self._cursor = claimed.cursor
        rest_s = CLAIM_IDLE_S / 4 if self._cursor == b"0-0" else 0.0
        self._claim_at = self._clock.monotonic() + rest_s
