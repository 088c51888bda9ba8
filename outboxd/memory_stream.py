"""Outbox → list → consumer: a broker in memory, for tests and the simulator.

Behaves as RedisStream does (one suite tests both) and can be hurt on purpose: taken away, emptied,
robbed of groups and entries. One object is the whole broker; all participants share it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

import anyio
import msgspec

from .clock import Clock, SystemClock
from .stream import (
    BrokerError,
    Claimed,
    Entry,
    Marker,
    NoGroup,
    Position,
    Published,
    Server,
    decode_accepted,
    id_order,
)

SCAN = 10  # XAUTOCLAIM looks at this many times its count

Id = tuple[int, int]


class Pending(msgspec.Struct):
    """An entry that was read and not acked: by whom, and since when."""

    consumer: str
    since: float


class Group(msgspec.Struct):
    """How far a group has read, and what of that is still pending."""

    delivered: Id = (0, 0)
    pending: dict[Id, Pending] = {}


class Log:
    """One stream: ids in order, their bodies, its groups; ``grown`` wakes blocked readers."""

    def __init__(self) -> None:
        self.ids: list[Id] = []
        self.bodies: dict[Id, bytes] = {}
        self.last: Id = (0, 0)
        self.groups: dict[str, Group] = {}
        self.grown: anyio.Event | None = None

    def append(self, body: bytes, at_ms: int) -> None:
        ahead = at_ms > self.last[0]
        self.last = (at_ms, 0) if ahead else (self.last[0], self.last[1] + 1)
        self.ids.append(self.last)
        self.bodies[self.last] = body

    def remove(self, ids: Sequence[Id]) -> None:
        for entry_id in ids:
            self.bodies.pop(entry_id, None)
        self.ids = [entry_id for entry_id in self.ids if entry_id in self.bodies]

    def wake(self) -> None:
        grown, self.grown = self.grown, None
        if grown is not None:
            grown.set()

    async def wait(self) -> None:
        """Until it grows."""
        self.grown = self.grown or anyio.Event()
        await self.grown.wait()

    def entry(self, entry_id: Id) -> Entry:
        return Entry(_text(entry_id), self.bodies.get(entry_id))


class MemoryStream:
    """A broker in memory.

    refused: stream → text; publish reports the entries of these streams as refused.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.refused: dict[str, str] = {}
        self._away: str | None = None
        self._clock = clock or SystemClock()
        self._logs: dict[str, Log] = {}
        self._accepted: dict[str, dict[str, tuple[int, int, bool]]] = {}
        self._markers: dict[str, Marker] = {}
        self._tenants: dict[str, str] = {}

    def cut(self, why: str = "connection refused") -> None:
        """Be Unavailable, with these words, until mended; blocked reads end at once."""
        self._away = why
        for log in self._logs.values():
            log.wake()

    def mend(self) -> None:
        """Answer again."""
        self._away = None

    def flush(self) -> None:
        """Lose everything, as FLUSHALL or a new volume does."""
        logs, self._logs = self._logs, {}
        self._accepted, self._markers, self._tenants = {}, {}, {}
        for log in logs.values():
            log.wake()

    def destroy(self, stream: str, group: str) -> None:
        """Lose a group, as a stranger's XGROUP DESTROY does."""
        log = self._logs[stream]
        log.groups.pop(group, None)
        log.wake()

    def remove(self, stream: str, *ids: bytes) -> None:
        """Lose entries, as a stranger's XDEL or XTRIM does."""
        self._logs[stream].remove([id_order(entry_id) for entry_id in ids])

    def entries(self, stream: str) -> list[Entry]:
        """All that lies in a stream, for tests to look at."""
        log = self._logs.get(stream)
        return [log.entry(entry_id) for entry_id in log.ids] if log else []

    async def connect(self) -> Server:
        self._reach()
        return Server("memory", "1.0", "memory", "none", None)

    async def ensure(self, stream: str, group: str) -> bool:
        self._reach()
        groups = self._log(stream).groups
        if group in groups:
            return False
        groups[group] = Group()
        return True

    async def publish(
        self,
        owner: str,
        batch: Sequence[tuple[str, bytes]],
        marker: Marker,
        watch: Sequence[tuple[str, str]],
    ) -> Published:
        self._reach()
        failed = {
            at: self.refused[stream]
            for at, (stream, _) in enumerate(batch)
            if stream in self.refused
        }
        at_ms = int(self._clock.now() * 1000)
        for at, (stream, body) in enumerate(batch):
            if at not in failed:
                self._log(stream).append(body, at_ms)
        for stream in {stream for stream, _ in batch} - self.refused.keys():
            self._logs[stream].wake()
        before = self._markers.get(owner)
        self._markers[owner] = marker
        held = {name: self._accepted.get(name[0], {}).get(name[1]) for name in watch}
        return Published(failed, before, {name: at for name, at in held.items() if at is not None})

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
        found = self._read_new(stream, group, consumer, count)
        if found or block_s is None:
            return found
        with anyio.move_on_after(block_s):
            while not found:
                await self._logs[stream].wait()
                found = self._read_new(stream, group, consumer, count)
        return found

    async def ack(
        self,
        stream: str,
        group: str,
        ids: Sequence[bytes],
        receiver: str,
        accepted: Mapping[str, str],
    ) -> None:
        self._reach()
        log = self._logs.get(stream)
        if log and group in log.groups:
            for entry_id in ids:
                log.groups[group].pending.pop(id_order(entry_id), None)
        held = self._accepted.setdefault(receiver, {})
        for field, text in accepted.items():
            at = decode_accepted(text.encode())
            if at is not None:
                held[field] = at

    async def claim(
        self,
        stream: str,
        group: str,
        consumer: str,
        *,
        min_idle_s: float,
        cursor: bytes,
        count: int,
    ) -> Claimed:
        log, here = self._at(stream, group)
        now = self._clock.monotonic()
        ahead = sorted(entry_id for entry_id in here.pending if entry_id >= id_order(cursor))
        entries: list[Entry] = []
        lost: list[bytes] = []
        seen = 0
        for entry_id in ahead[: count * SCAN]:
            if len(entries) + len(lost) == count:
                break
            seen += 1
            if now - here.pending[entry_id].since < min_idle_s:
                continue
            if entry_id in log.bodies:
                here.pending[entry_id] = Pending(consumer, now)
                entries.append(log.entry(entry_id))
            else:
                del here.pending[entry_id]
                lost.append(_text(entry_id))
        return Claimed(_text(ahead[seen] if seen < len(ahead) else (0, 0)), entries, lost)

    async def trim(self, stream: str, *, keep_after: bytes | None = None) -> int:
        self._reach()
        log = self._logs.get(stream)
        if log is None:
            return 0
        floors = [min(group.pending, default=group.delivered) for group in log.groups.values()]
        floors += [] if keep_after is None else [id_order(keep_after)]
        gone = log.ids[: bisect_left(log.ids, min(floors))] if floors else []
        log.remove(gone)
        return len(gone)

    async def position(self, stream: str, group: str) -> Position:
        self._reach()
        log = self._logs.get(stream) or Log()
        last, length, here = _text(log.last), len(log.ids), log.groups.get(group)
        if here is None:
            return Position(last, None, 0, length, None, False)
        lag = length - bisect_right(log.ids, here.delivered)
        return Position(last, _text(here.delivered), len(here.pending), length, lag, True)

    async def last_id(self, stream: str) -> bytes:
        self._reach()
        return _text((self._logs.get(stream) or Log()).last)

    async def accepted(self, receiver: str) -> dict[str, tuple[int, int, bool]]:
        self._reach()
        return dict(self._accepted.get(receiver, {}))

    async def marker(self, owner: str) -> Marker | None:
        self._reach()
        return self._markers.get(owner)

    async def tenants(self, owners: Sequence[str]) -> dict[str, str]:
        self._reach()
        return {owner: self._tenants[owner] for owner in owners if owner in self._tenants}

    async def set_tenants(self, said: Mapping[str, str | None]) -> None:
        self._reach()
        for owner, text in said.items():
            if text is None:
                self._tenants.pop(owner, None)
            else:
                self._tenants[owner] = text

    async def drop_group(self, stream: str, group: str) -> None:
        self._reach()
        log = self._logs.get(stream)
        if log is not None:
            log.groups.pop(group, None)

    async def aclose(self) -> None:
        return

    def _reach(self) -> None:
        if self._away is not None:
            raise BrokerError(self._away, code=self._away.split(" ", 1)[0])

    def _log(self, stream: str) -> Log:
        found = self._logs.get(stream)
        if found is None:
            found = self._logs[stream] = Log()
        return found

    def _at(self, stream: str, group: str) -> tuple[Log, Group]:
        self._reach()
        log = self._logs.get(stream)
        if log is None or group not in log.groups:
            raise NoGroup(f"NOGROUP no stream {stream} or no group {group}")
        return log, log.groups[group]

    def _read_new(self, stream: str, group: str, consumer: str, count: int) -> list[Entry]:
        log, here = self._at(stream, group)
        start = bisect_right(log.ids, here.delivered)
        fresh = log.ids[start : start + count]
        for entry_id in fresh:
            here.pending[entry_id] = Pending(consumer, self._clock.monotonic())
            here.delivered = entry_id
        return [log.entry(entry_id) for entry_id in fresh]

    def _read_own(
        self, stream: str, group: str, consumer: str, count: int, after: Id
    ) -> list[Entry]:
        log, here = self._at(stream, group)
        mine = [
            entry_id
            for entry_id, held in here.pending.items()
            if held.consumer == consumer and entry_id > after
        ]
        page = sorted(mine)[:count]
        for entry_id in page:
            here.pending[entry_id].since = self._clock.monotonic()
        return [log.entry(entry_id) for entry_id in page]


def _text(entry_id: Id) -> bytes:
    return b"%d-%d" % entry_id
