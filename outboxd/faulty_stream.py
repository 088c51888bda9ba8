"""A broker that misbehaves on purpose: it loses, repeats, reorders, refuses and forgets."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import anyio
import msgspec

from .errors import NotFound
from .memory_stream import MemoryStream
from .stream import NO_ID, BrokerError, Claimed, Entry, Marker, Position, Published, Server, Stream

BLOCK_S = 0.02
"""A read blocks no longer than this: a reader soon comes to the end of its stream."""


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How often what goes wrong, from 0 (never) to 1 (always).

    Of an entry that is published: ``lose``, ``duplicate``, ``reorder`` (with its neighbour). Of a
    call: it fails ``before`` it was carried out, or ``after``, when only its answer is lost.
    """

    lose: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    publish_before: float = 0.0
    publish_after: float = 0.0
    read_after: float = 0.0
    ack_before: float = 0.0
    ack_after: float = 0.0


CALM = Faults()

Moment = Literal["publish_before", "publish_after", "read_after", "ack_before", "ack_after"]


class _Hold:
    """What of a stream is kept back from its groups."""

    def __init__(self, at: bytes) -> None:
        self.at = at
        self.over = anyio.Event()
        self.kept: dict[str, list[Entry]] = {}

    def let_through(self, group: str, found: list[Entry]) -> list[Entry]:
        """What comes before the entry at which the hold begins."""
        for place, entry in enumerate(found):
            if self.at in (entry.body or b""):
                self.kept[group] = found[place:]
                return found[:place]
        return found


class FaultyStream:
    """A broker that hurts: wraps a MemoryStream or a RedisStream.

    ``faults`` may be changed at any time; ``chance`` is where its luck comes from. ``forget_all``
    empties the broker behind; a MemoryStream needs none.
    """

    def __init__(
        self,
        broker: Stream,
        chance: random.Random | None = None,
        faults: Faults = CALM,
        forget_all: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.broker = broker
        self.faults = faults
        self.seen: list[tuple[str, bytes]] = []
        self.chance = chance or random.Random(0)
        self._forget_all = forget_all
        self._failing: list[Moment] = []
        self._swallowed: set[str] = set()
        self._holds: dict[str, _Hold] = {}
        self._kept: dict[tuple[str, str], list[Entry]] = {}

    def fail(self, moment: Moment, times: int = 1) -> None:
        """The next ``times`` calls fail at that moment."""
        self._failing += [moment] * times

    async def forget(self) -> None:
        """The broker loses everything: entries, groups, what receivers reported, markers."""
        if self._forget_all is not None:
            await self._forget_all()
        elif isinstance(self.broker, MemoryStream):
            self.broker.flush()
        else:
            raise NotFound("this broker has no way to forget", hint="give forget_all=")

    def swallow(self, stream: str) -> None:
        """The next publish that has entries for ``stream`` loses all of them."""
        self._swallowed.add(stream)

    def hold(self, stream: str, at: bytes = b"") -> None:
        """Delivers nothing more of ``stream``, from the first entry on that contains ``at``."""
        self._holds[stream] = _Hold(at)

    def release(self, stream: str) -> None:
        """Ends a ``hold``: what was kept comes next."""
        hold = self._holds.pop(stream)
        self._kept |= {(stream, group): kept for group, kept in hold.kept.items()}
        hold.over.set()

    async def connect(self) -> Server:
        return await self.broker.connect()

    async def ensure(self, stream: str, group: str) -> bool:
        return await self.broker.ensure(stream, group)

    async def publish(
        self,
        owner: str,
        batch: Sequence[tuple[str, bytes]],
        marker: Marker,
        watch: Sequence[tuple[str, str]],
    ) -> Published:
        self._maybe_fail("publish_before")
        self.seen += batch
        order = self._hurt([stream for stream, _ in batch])
        done = await self.broker.publish(owner, [batch[at] for at in order], marker, watch)
        self._maybe_fail("publish_after")
        failed = {order[position]: words for position, words in done.failed.items()}
        return msgspec.structs.replace(done, failed=failed)

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
        block_s = None if block_s is None else min(block_s, BLOCK_S)
        hold = self._holds.get(stream)
        if hold is not None and group in hold.kept:
            with anyio.move_on_after(0 if block_s is None else block_s):
                await hold.over.wait()
            return []
        if own is None and (kept := self._kept.pop((stream, group), None)):
            return kept
        found = await self.broker.read(
            stream, group, consumer, count=count, block_s=block_s, own=own
        )
        if found:
            self._maybe_fail("read_after")
        hold = self._holds.get(stream)
        return found if hold is None else hold.let_through(group, found)

    async def ack(
        self,
        stream: str,
        group: str,
        ids: Sequence[bytes],
        receiver: str,
        accepted: Mapping[str, str],
    ) -> None:
        self._maybe_fail("ack_before")
        await self.broker.ack(stream, group, ids, receiver, accepted)
        self._maybe_fail("ack_after")

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
        if stream in self._holds:
            return Claimed(NO_ID, [], [])
        return await self.broker.claim(
            stream, group, consumer, min_idle_s=min_idle_s, cursor=cursor, count=count
        )

    async def trim(self, stream: str, *, keep_after: bytes | None = None) -> int:
        return await self.broker.trim(stream, keep_after=keep_after)

    async def position(self, stream: str, group: str) -> Position:
        return await self.broker.position(stream, group)

    async def last_id(self, stream: str) -> bytes:
        return await self.broker.last_id(stream)

    async def accepted(self, receiver: str) -> dict[str, tuple[int, int, bool]]:
        return await self.broker.accepted(receiver)

    async def marker(self, owner: str) -> Marker | None:
        return await self.broker.marker(owner)

    async def tenants(self, owners: Sequence[str]) -> dict[str, str]:
        return await self.broker.tenants(owners)

    async def set_tenants(self, said: Mapping[str, str | None]) -> None:
        await self.broker.set_tenants(said)

    async def drop_group(self, stream: str, group: str) -> None:
        await self.broker.drop_group(stream, group)

    async def aclose(self) -> None:
        await self.broker.aclose()

    def _hurt(self, streams: Sequence[str]) -> list[int]:
        """Which entries of a batch are published, and in which order."""
        lost = self._swallowed.intersection(streams)
        self._swallowed -= lost
        order: list[int] = []
        for at, stream in enumerate(streams):
            if stream not in lost and not self._strikes(self.faults.lose):
                order += [at, at] if self._strikes(self.faults.duplicate) else [at]
        for at in range(len(order) - 1):
            if self._strikes(self.faults.reorder):
                order[at], order[at + 1] = order[at + 1], order[at]
        return order

    def _strikes(self, probability: float) -> bool:
        return probability > 0 and self.chance.random() < probability

    def _maybe_fail(self, moment: Moment) -> None:
        if moment in self._failing:
            self._failing.remove(moment)
        elif not self._strikes(getattr(self.faults, moment)):
            return
        raise BrokerError(f"injected: {moment}", code="INJECTED")
