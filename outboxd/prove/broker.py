"""The simulator's broker: MemoryStream, read one entry at a time, when the world says so."""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from outboxd.clock import Clock
from outboxd.memory_stream import Id, Log, MemoryStream
from outboxd.stream import Entry, id_order


class VirtualClock:
    """Time that moves only when the world lets it pass."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Feed(msgspec.Struct, frozen=True):
    """What one participant reads: a stream, as the group of its name."""

    stream: str
    reader: str


class SimStream(MemoryStream):
    """Never blocks. ``serial``: the order in which entries came, over all streams."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.away: set[Feed] = set()
        self.serial: dict[tuple[str, tuple[int, int]], int] = {}

    async def read(
        self,
        stream: str,
        group: str,
        consumer: str,
        *,
        count: int,
        block_s: float | None,
        own: bytes | None = None,
    ) -> list[Entry]:
        if own is not None:
            return self._read_own(stream, group, consumer, count, id_order(own))
        return self._read_new(stream, group, consumer, count)

    def head(self, feed: Feed) -> tuple[int, bytes] | None:
        """(its place among all entries, body) of what ``feed`` would read next."""
        entry_id = self._next_id(feed)
        if entry_id is None:
            return None
        key = (feed.stream, entry_id)
        place = self.serial.get(key)
        if place is None:
            place = self.serial[key] = len(self.serial)
        return place, self._logs[feed.stream].bodies[entry_id]

    def lose_head(self, feed: Feed) -> None:
        """A stranger deletes what ``feed`` would read next."""
        entry_id = self._next_id(feed)
        if entry_id is not None:
            self._logs[feed.stream].remove([entry_id])

    def put(self, stream: str, body: bytes) -> None:
        """A stranger adds an entry."""
        self._log(stream).append(body, 0)

    def repeat(self, feed: Feed) -> None:
        """What ``feed`` would read next comes once more, as after a repeated publish."""
        entry_id = self._next_id(feed)
        if entry_id is not None:
            log = self._logs[feed.stream]
            log.append(log.bodies[entry_id], 0)

    def unread(self, feed: Feed) -> int:
        """How many entries ``feed`` would read."""
        log = self._logs.get(feed.stream)
        return 0 if log is None else len(log.ids) - _read_to(log, feed)

    def _next_id(self, feed: Feed) -> Id | None:
        log = self._logs.get(feed.stream)
        if log is None:
            return None
        at = _read_to(log, feed)
        return log.ids[at] if at < len(log.ids) else None

    def pending(self) -> int:
        """Entries that were read and not acked."""
        return sum(
            len(group.pending) for log in self._logs.values() for group in log.groups.values()
        )

    def image(self) -> object:
        """All that it holds, for comparison."""
        return tuple(
            (
                name,
                tuple(log.ids),
                tuple(hash(body) for body in log.bodies.values()),
                tuple((group, at.delivered, tuple(at.pending)) for group, at in log.groups.items()),
            )
            for name, log in sorted(self._logs.items())
        ), tuple(
            (name, tuple(sorted(held.items()))) for name, held in sorted(self._accepted.items())
        )


def _read_to(log: Log, feed: Feed) -> int:
    """The index of what ``feed`` reads next; without a group, of a reader not up yet, the first."""
    group = log.groups.get(feed.reader)
    return 0 if group is None else bisect_right(log.ids, group.delivered)
