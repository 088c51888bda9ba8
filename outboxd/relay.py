"""Outbox → stream: in order, at least once, settled only by what the receivers say they hold.

One relay per database. It publishes what is committed, watches the receivers' numbers in the same
round trip, deletes what all of them hold, and publishes again what a lost broker or a hole took
away.
"""

from __future__ import annotations

import logging
from collections import deque

from . import settle
from .batch import Outcome
from .clock import Clock, in_words
from .committer import Committer
from .delivery import Delivery
from .errors import Refused, Unavailable
from .message import events_stream, numbered
from .settle import Progress, Report
from .store import outbox
from .store.meta import Identity
from .store.outbox import OutRow
from .stream import Marker, Published, Stream
from .wake import Outage, Wake
from .window import Window

log = logging.getLogger("outboxd")

BATCH = 500
"""Entries per round trip."""

BUFFER = 5000
"""Committed rows kept in memory per stream; a longer backlog is read from the outbox."""

SETTLE_S = 0.1
"""Settled rows are deleted at most so often: a message costs only its share of a delete."""

SILENT_S = 600.0
"""A subscriber that has not moved for so long, while there is something to read, is told of."""

WATCH_S = 0.02
IDLE_S = 1.0


class Relay:
    """The outbox of one participant on its way out."""

    def __init__(
        self, delivery: Delivery, committer: Committer, stream: Stream, clock: Clock
    ) -> None:
        self.progress: dict[str, Progress] = {}
        self.is_up = False
        self._name = delivery.name
        self._delivery = delivery
        self._committer = committer
        self._stream = stream
        self._clock = clock
        self._fresh: dict[str, deque[OutRow]] = {}
        self._windows: dict[str, Window] = {}
        self._identity = Identity("", 0)
        self._mark = 0
        self._expected: Marker | None = None
        self._settled: dict[str, int] = {}
        self._settled_at = 0.0
        self._watch_s = WATCH_S
        self._wake = Wake()
        self._removed: list[str] = []
        self._readers: dict[str, tuple[int, float]] = {}

    @property
    def problems(self) -> list[str]:
        """Subscribers that keep the events from being settled, in sentences."""
        now = self._clock.monotonic()
        return [
            f"{name} has not read the events of {self._name} for {in_words(now - moved_at)}, so "
            "that they are kept for it; if it is gone for good: "
            f"`outboxd subscriber remove {name} --from {self._name}`"
            for name, (_, moved_at) in list(self._readers.items())
            if now - moved_at >= SILENT_S
        ]

    @property
    def is_settled(self) -> bool:
        """Whether every receiver holds everything that was committed, and the outbox is empty."""
        return all(
            p.is_settled and self._settled.get(stream, 0) >= p.accepted
            for stream, p in self.progress.items()
        )

    def offer(self, outcome: Outcome) -> None:
        """Rows that were just committed, in order."""
        for row in outcome.rows:
            progress = self._progress(row.stream)
            progress.last = row.seq
            fresh = self._fresh.setdefault(row.stream, deque())
            # Without gaps: what follows a row that found no room is read from the outbox, too.
            if len(fresh) < BUFFER and (not fresh or fresh[-1].seq + 1 == row.seq):
                fresh.append(row)
        self._removed += outcome.removed
        if outcome.rows or outcome.removed:
            self._watch_s = WATCH_S
            self._wake.set()

    async def open(self, identity: Identity) -> None:
        """What the outbox holds, to be published again: at worst as duplicates."""
        self._identity = identity
        last, waiting = await self._committer.database.read(
            lambda cx: (outbox.last_numbers(cx), outbox.unsettled(cx))
        )
        for stream, number in last.items():
            first = waiting[stream][0] if stream in waiting else number + 1
            progress = self._progress(stream)
            # The scheduler runs already: what it has committed meanwhile was offered before this.
            progress.last = max(progress.last, number)
            progress.accepted = progress.published = self._settled[stream] = first - 1
        self._mark = sum(last.values())

    async def run(self) -> None:
        """Publishes and watches until cancelled; a broker that is away is waited for."""
        outage = Outage()
        while True:
            try:
                await self._turn()
                self.is_up = True
                outage.failures = 0
            except Unavailable:
                self.lost()
                outage.failed()
                await self._wake.wait_or(outage.pause_s)

    async def _turn(self) -> None:
        if not await self.work():
            if self.is_settled:
                await self._wake.wait_or(IDLE_S)
                return
            await self._wake.wait_or(self._watch_s)
            self._watch_s = min(self._watch_s * 1.5, 0.25)
            await self.watch()

    async def work(self) -> bool:
        """Publishes what comes next; returns whether there was anything."""
        while self._removed:
            await self._stream.drop_group(events_stream(self._name), self._removed[0])
            del self._removed[0]
        rows = await self._next_rows()
        if rows:
            await self._publish(rows)
            await self._settle()
        return bool(rows)

    async def watch(self) -> None:
        """Asks what the receivers hold, beside publishing what has come."""
        await self._publish(await self._next_rows())
        await self._settle()

    def lost(self) -> None:
        """The broker is away, the outcome unknown: what was under way is published again."""
        self.is_up = False
        self._readers.clear()
        self._expected = None
        self._lose_broker()

    async def _publish(self, rows: list[OutRow]) -> None:
        sent = [(row.stream, numbered(row.body, self._identity.epoch, row.seq)) for row in rows]
        reached = {row.stream: row.seq for row in rows}
        self._mark = max(self._mark, self._sum_published(reached))
        marker = Marker(self._identity.store_id, self._identity.epoch, self._mark)
        watch = [pair for stream in self._open_streams(rows) for pair in self._receivers(stream)]
        done = await self._stream.publish(self._name, sent, marker, watch)
        self._check_marker(done)
        self._expected = marker
        refused = {rows[position].stream for position in done.failed}
        for stream, seq in reached.items():
            if stream not in refused:
                progress = self._progress(stream)
                if progress.published == progress.accepted:
                    progress.moved_at = self._clock.monotonic()
                progress.published = max(progress.published, seq)
        if refused:
            reasons = "; ".join(sorted(set(done.failed.values())))
            raise Unavailable(f"{', '.join(sorted(refused))} refused: {reasons}")
        await self._take_reports(done)

    def _check_marker(self, done: Published) -> None:
        """Another store's marker is a refusal; none, or an old one, is a broker that lost data."""
        found = done.marker
        if found is not None and found.store_id != self._identity.store_id:
            raise Refused(
                f"another store claims the participant {self._name} on this broker",
                hint="two data directories cannot host one participant on one broker",
            )
        if self._expected is not None and found != self._expected:
            log.warning("broker_lost_data participant=%s", self._name)
            self._lose_broker()

    async def _take_reports(self, done: Published) -> None:
        now = self._clock.monotonic()
        # A copy, here and below: while this waits, a commit may add a stream.
        for stream, progress in list(self.progress.items()):
            if progress.is_settled:
                if stream == events_stream(self._name):
                    self._readers.clear()
                continue
            reports = [
                Report(*found) if (found := done.accepted.get(pair)) is not None else None
                for pair in self._receivers(stream)
            ]
            if stream == events_stream(self._name):
                self._note_readers(progress, reports, now)
            has_hole = settle.note(progress, self._identity.epoch, reports, now)
            if has_hole and settle.fill_hole(progress, now):
                log.info("hole_filled stream=%s from=%d", stream, progress.accepted + 1)
            elif settle.is_quiet(progress, now):
                await self._consider_tail(stream, progress)

    def _note_readers(self, progress: Progress, reports: list[Report | None], now: float) -> None:
        """Since when each subscriber stands, of those that are behind."""
        behind: dict[str, tuple[int, float]] = {}
        for name, report in zip(self._delivery.subscribing.subscribers, reports, strict=False):
            accepted = 0 if report is None else report.accepted
            if accepted < progress.published:
                at, moved_at = self._readers.get(name, (accepted, now))
                behind[name] = (accepted, moved_at if at == accepted else now)
        self._readers = behind

    async def _consider_tail(self, stream: str, progress: Progress) -> None:
        """Nothing moves: either the receiver is away or slow, or the stream's end was lost."""
        now = self._clock.monotonic()
        groups = [receiver for receiver, _ in self._receivers(stream)]
        for group in groups:
            at = await self._stream.position(stream, group)
            # Without a group nobody has read yet. A lag that the server does not know (an entry was
            # deleted) may hide a loss: at worst the receiver gets duplicates.
            is_behind = at.pending or (at.lag or 0) if at.group_exists else at.length
            if is_behind:
                progress.moved_at = now
                return
        settle.resend_tail(progress, now)
        log.info("tail_published_again stream=%s from=%d", stream, progress.accepted + 1)

    async def _settle(self) -> None:
        """Deletes what is settled, now and then."""
        now = self._clock.monotonic()
        if now - self._settled_at < SETTLE_S:
            return
        marks = [
            (stream, p.accepted)
            for stream, p in self.progress.items()
            if p.accepted > self._settled.get(stream, 0)
        ]
        if marks:
            self._settled_at = now
            await self._committer.database.write(lambda cx: self._delivery.settled(cx, marks))
            self._settled.update(marks)

    async def _next_rows(self) -> list[OutRow]:
        """What comes next on each stream, from memory or, after a gap, from the outbox."""
        rows: list[OutRow] = []
        for stream, progress in list(self.progress.items()):
            if progress.published < progress.last:
                room = min(BATCH - len(rows), self._room(stream, progress))
                rows += await self._next_of(stream, progress.published, room)
        for row in rows:
            if (window := self._windows.get(row.stream)) is not None:
                window.sent(row.seq, len(row.body))
        return rows

    async def _next_of(self, stream: str, after: int, room: int) -> list[OutRow]:
        if room <= 0:
            return []
        fresh = self._fresh.get(stream, deque())
        while fresh and fresh[0].seq <= after:
            fresh.popleft()
        if fresh and fresh[0].seq == after + 1:
            return [fresh.popleft() for _ in range(min(room, len(fresh)))]
        return await self._committer.database.read(lambda cx: outbox.after(cx, stream, after, room))

    def _room(self, stream: str, progress: Progress) -> int:
        """How many rows of a stream may follow.

        Events have no bound: one subscriber that is away must not keep them from the others.
        """
        if stream == events_stream(self._name):
            return BATCH
        window = self._windows.setdefault(stream, Window())
        return window.room(progress.accepted, progress.published)

    def _open_streams(self, rows: list[OutRow]) -> list[str]:
        open_now = [stream for stream, p in self.progress.items() if not p.is_settled]
        return list(dict.fromkeys([*open_now, *(row.stream for row in rows)]))

    def _receivers(self, stream: str) -> list[tuple[str, str]]:
        """(receiver, its field for us) of a stream."""
        if stream == events_stream(self._name):
            field = f"{self._name}:events"
            return [(name, field) for name in self._delivery.subscribing.subscribers]
        return [(stream.split("{")[1].split("}")[0], f"{self._name}:in")]

    def _lose_broker(self) -> None:
        now = self._clock.monotonic()
        for progress in self.progress.values():
            settle.lost_broker(progress, now)

    def _progress(self, stream: str) -> Progress:
        return self.progress.setdefault(stream, Progress())

    def _sum_published(self, reached: dict[str, int]) -> int:
        return sum(max(p.published, reached.get(s, 0)) for s, p in self.progress.items())
