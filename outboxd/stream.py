"""Outbox → broker → consumer: the seam through which all entries go, whatever the broker is.

Promises the order of one stream and a deadline on every call. Does not promise that anything lasts:
the broker is a lossy transport, and whoever calls compares numbers with SQLite. A call that ends in
``Unavailable`` may have been carried out all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from .errors import ConfigError, Unavailable

NO_ID = b"0-0"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a stream; ``body`` is None where it was removed while still pending."""

    id: bytes
    body: bytes | None


class Marker(msgspec.Struct, frozen=True, gc=False):
    """How far a store has published, as the broker remembers it."""

    store_id: str
    epoch: int
    last: int


class Published(msgspec.Struct, frozen=True):
    """What became of a batch.

    failed: position in the batch → the server's words, for the entries that it refused.
    marker: what the broker held *before*; None if it knows nothing of this store.
    accepted: (receiver, field) → (epoch, accepted, hole), for what was watched and is known.
    """

    failed: dict[int, str]
    marker: Marker | None
    accepted: dict[tuple[str, str], tuple[int, int, bool]]


class Position(msgspec.Struct, frozen=True):
    """Where a stream ends and how far a group has read; ``lag`` is None where unknown."""

    last: bytes
    delivered: bytes | None
    pending: int
    length: int
    lag: int | None
    group_exists: bool


class Claimed(msgspec.Struct, frozen=True):
    """Entries taken over; the ids whose bodies are gone (no longer pending); where to go on."""

    cursor: bytes
    entries: list[Entry]
    lost: list[bytes]


class Server(msgspec.Struct, frozen=True):
    """Whom we talk to. ``run_id`` changes when the server restarts (empty: not told)."""

    product: str
    version: str
    run_id: str
    persistence: str
    maxmemory_policy: str | None


class BrokerError(Unavailable):
    """The broker does not do it now; ``code`` is the first word of its answer, if it gave one."""

    def __init__(self, message: str, *, code: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class NoGroup(Unavailable):
    """The stream or its group is gone: the broker lost its data, or somebody removed it."""


class NotAllowed(ConfigError):
    """The broker's user lacks a right."""


class Stream(Protocol):
    """The seam to the broker: RedisStream, or MemoryStream for tests and the simulator."""

    async def connect(self) -> Server:
        """Reach the server and refuse one that cannot do the work (ConfigError)."""
        ...

    async def ensure(self, stream: str, group: str) -> bool:
        """Create the group at the stream's start unless it is there; True if created now."""
        ...

    async def publish(
        self,
        owner: str,
        batch: Sequence[tuple[str, bytes]],
        marker: Marker,
        watch: Sequence[tuple[str, str]],
    ) -> Published:
        """Append (stream, body) in order, then set the owner's marker; finishes though cancelled.

        ``watch`` are the (receiver, field) whose accepted numbers come back with it.
        """
        ...

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
        """New entries; or the consumer's own pending ones after the id ``own`` (b"0": all)."""
        ...

    async def ack(
        self,
        stream: str,
        group: str,
        ids: Sequence[bytes],
        receiver: str,
        accepted: Mapping[str, str],
    ) -> None:
        """Ack, and mirror what the receiver holds (either may be empty); finishes though cancelled.

        ``accepted`` maps "SENDER:in" or "SENDER:events" to "EPOCH:ACCEPTED[:hole]".
        """
        ...

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
        """Take over what others left idle; go on from the returned cursor until it is b"0-0".

        A page may be empty and yet have a cursor: the server looks at ten times ``count`` a call.
        """
        ...

    async def trim(self, stream: str, *, keep_after: bytes | None = None) -> int:
        """Drop what every group has acked and, if given, is older than the id ``keep_after``.

        Coarse: some acked entries stay. Without a group only what is older goes.
        """
        ...

    async def position(self, stream: str, group: str) -> Position:
        """Where the stream ends and where the group is."""
        ...

    async def last_id(self, stream: str) -> bytes:
        """The last id the stream ever gave out; b"0-0" if there is no stream."""
        ...

    async def accepted(self, receiver: str) -> dict[str, tuple[int, int, bool]]:
        """All that a receiver says it holds."""
        ...

    async def marker(self, owner: str) -> Marker | None:
        """How far the owner has published, as the broker remembers it."""
        ...

    async def tenants(self, owners: Sequence[str]) -> dict[str, str]:
        """What the processes that host these have said last, where they have said something."""
        ...

    async def set_tenants(self, said: Mapping[str, str | None]) -> None:
        """Says it for the owners; None takes it back."""
        ...

    async def drop_group(self, stream: str, group: str) -> None:
        """Forget a group, if it is there: nobody reads the stream in its name any more."""
        ...

    async def aclose(self) -> None:
        """Drop the connections."""
        ...


def id_order(entry_id: bytes) -> tuple[int, int]:
    """The order of stream ids, which their text does not have."""
    at, _, number = entry_id.partition(b"-")
    return int(at), int(number or b"0")


def decode_accepted(text: bytes | None) -> tuple[int, int, bool] | None:
    """What a field of the accepted hash says; None for none and for what is not ours."""
    epoch, _, rest = (text or b"").partition(b":")
    number, _, flag = rest.partition(b":")
    if not (epoch.isdigit() and number.isdigit() and flag in (b"", b"hole")):
        return None
    return int(epoch), int(number), flag == b"hole"


def decode_marker(store_id: bytes | None, mark: bytes | None) -> Marker | None:
    """What the store hash says; None for none and for what is not ours."""
    at = decode_accepted(mark)
    if store_id is None or at is None or at[2]:
        return None
    return Marker(store_id.decode(errors="replace"), at[0], at[1])
