"""Outbox → Redis Stream → consumer: the broker of production, any Redis or Valkey server.

Keys: the streams; a hash per receiver that mirrors what it holds; a hash per store that says how
far it has published. Nothing here decides or retries; the shapes of replies end here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from . import redis_server
from .errors import OutboxdError
from .stream import (
    NO_ID,
    BrokerError,
    Claimed,
    Entry,
    Marker,
    NotAllowed,
    Position,
    Published,
    Server,
    decode_accepted,
    decode_marker,
    id_order,
)
from .wire import AWAY, DEADLINE_S, GRANT, Command, Wire

CONNECTIONS = 16  # for everything but blocked reads, which have one each
READERS = 10_000
TRIM_LIMIT = b"100000"  # entries removed by one call: milliseconds of the server's time at most

# One call per stream: a reader blocked on it is woken once, with all of the batch, where one XADD
# after another would wake it for the first entry alone. Sent as text each time: it is short, and
# the server may forget it at any moment.
APPEND = b"for i=1,#ARGV do redis.call('XADD',KEYS[1],'*','e',ARGV[i]) end return #ARGV"
# What frees memory must pass when memory is used up.
HSET_ANYWAY = b"#!lua flags=allow-oom\nreturn redis.call('HSET',KEYS[1],unpack(ARGV))"
CREATE_ANYWAY = (
    b"#!lua flags=allow-oom\nreturn redis.call('XGROUP','CREATE',KEYS[1],ARGV[1],'0','MKSTREAM')"
)
# In one script, so that no group is created between the look and the trim. Ids are compared as
# text, by length first: a Lua number does not hold all of their 64 bits.
TRIM = b"""
local function before(a, b)
  local am, as = string.match(a, '^(%d+)%-(%d+)$')
  local bm, bs = string.match(b, '^(%d+)%-(%d+)$')
  if am == bm then am, bm = as, bs end
  if #am ~= #bm then return #am < #bm end
  return am < bm
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local floor = ARGV[2]
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #fields, 2 do group[fields[i]] = fields[i + 1] end
  local low = group['last-delivered-id']
  if group['pending'] > 0 then low = redis.call('XPENDING', KEYS[1], group['name'])[2] end
  if not floor or before(low, floor) then floor = low end
end
if not floor then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', floor, 'LIMIT', ARGV[1])
"""


class RedisStream:
    """Streams of a Redis or Valkey server, 7.0 or newer; one object serves the whole process.

    url: redis://, rediss:// or unix://; deadline_s: the longest that a call may take.
    """

    def __init__(self, url: str, *, deadline_s: float = DEADLINE_S) -> None:
        self._commands = Wire(url, connections=CONNECTIONS, deadline_s=deadline_s)
        # Blocked reads neither wait for a command nor hold one up.
        self._readers = Wire(url, connections=READERS, deadline_s=deadline_s)
        self._deadline_s = deadline_s
        self._scripts = True

    @property
    def where(self) -> str:
        """The address, without the password."""
        return self._commands.where

    async def connect(self) -> Server:
        server, self._scripts = await redis_server.greet(self._commands)
        return server

    async def ensure(self, stream: str, group: str) -> bool:
        key, name = stream.encode(), group.encode()
        [reply] = await self._commands.exchange(
            [(b"XGROUP", b"CREATE", key, name, b"0", b"MKSTREAM")]
        )
        if _is(reply, "OOM"):
            [reply] = await self._commands.exchange([(b"EVAL", CREATE_ANYWAY, b"1", key, name)])
        if _is(reply, "BUSYGROUP"):
            return False
        _raise_first([reply])
        return True

    async def publish(
        self,
        owner: str,
        batch: Sequence[tuple[str, bytes]],
        marker: Marker,
        watch: Sequence[tuple[str, str]],
    ) -> Published:
        each = [[at] for at in range(len(batch))]
        done = await self._send(
            owner, batch, _by_stream(batch) if self._scripts else each, marker, watch
        )
        if self._scripts and done.failed:
            # Either scripts are forbidden or a stream is at fault: one by one shows it.
            first, again = done, [[at] for at in sorted(done.failed)]
            done = await self._send(owner, batch, again, marker, watch)
            self._scripts = done.failed.keys() == first.failed.keys()
            done = msgspec.structs.replace(done, marker=first.marker)
        if len(done.failed) == len(batch) and _all_denied(done.failed.values()):
            raise NotAllowed(next(iter(done.failed.values())), hint=GRANT)
        return done

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
        key = stream.encode()
        who = (b"XREADGROUP", b"GROUP", group.encode(), consumer.encode(), b"COUNT", b"%d" % count)
        if block_s is None or own is not None:
            reply = await self._commands.ask(*who, b"STREAMS", key, b">" if own is None else own)
        else:
            block = b"%d" % max(1, int(block_s * 1000))  # 0 would mean for ever
            reply = await self._readers.ask(
                *who, b"BLOCK", block, b"STREAMS", key, b">", within_s=block_s + self._deadline_s
            )
        return [_entry(found) for found in reply[key]] if reply else []

    async def ack(
        self,
        stream: str,
        group: str,
        ids: Sequence[bytes],
        receiver: str,
        accepted: Mapping[str, str],
    ) -> None:
        mirror = (accepted_key(receiver), *_flat(accepted))
        commands: list[Command] = []
        if ids:
            commands.append((b"XACK", stream.encode(), group.encode(), *ids))
        if accepted:
            commands.append((b"HSET", *mirror))
        replies = await self._commands.exchange(commands, shield=True) if commands else []
        if accepted and _is(replies[-1], "OOM"):
            replies[-1:] = await self._commands.exchange(
                [(b"EVAL", HSET_ANYWAY, b"1", *mirror)], shield=True
            )
        _raise_first(replies)

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
        idle, who = b"%d" % int(min_idle_s * 1000), (group.encode(), consumer.encode())
        go_on, entries, lost = await self._commands.ask(
            b"XAUTOCLAIM", stream.encode(), *who, idle, cursor, b"COUNT", b"%d" % count
        )
        return Claimed(go_on, [_entry(found) for found in entries if found], lost)

    async def trim(self, stream: str, *, keep_after: bytes | None = None) -> int:
        if not self._scripts:
            return await self._trim_in_two_steps(stream.encode(), keep_after)
        keep = () if keep_after is None else (keep_after,)
        removed = await self._commands.ask(b"EVAL", TRIM, b"1", stream.encode(), TRIM_LIMIT, *keep)
        return int(removed)

    async def position(self, stream: str, group: str) -> Position:
        info, groups = await self._commands.exchange(_look(stream.encode()))
        if _is(info, "ERR"):
            return Position(NO_ID, None, 0, 0, None, False)
        _raise_first([info, groups])
        last, length = info[b"last-generated-id"], info[b"length"]
        for found in groups:
            if found[b"name"] == group.encode():
                delivered, pending = found[b"last-delivered-id"], found[b"pending"]
                return Position(last, delivered, pending, length, found[b"lag"], True)
        return Position(last, None, 0, length, None, False)

    async def last_id(self, stream: str) -> bytes:
        return (await self.position(stream, "")).last

    async def accepted(self, receiver: str) -> dict[str, tuple[int, int, bool]]:
        held = await self._commands.ask(b"HGETALL", accepted_key(receiver))
        decoded = {field.decode(errors="replace"): decode_accepted(held[field]) for field in held}
        return {field: at for field, at in decoded.items() if at is not None}

    async def marker(self, owner: str) -> Marker | None:
        return decode_marker(*await self._commands.ask(b"HMGET", store_key(owner), b"id", b"mark"))

    async def tenants(self, owners: Sequence[str]) -> dict[str, str]:
        asked = [(b"HGET", store_key(owner), b"run") for owner in owners]
        replies = await self._commands.exchange(asked) if asked else []
        _raise_first(replies)
        found = zip(owners, replies, strict=True)
        return {owner: text.decode(errors="replace") for owner, text in found if text is not None}

    async def set_tenants(self, said: Mapping[str, str | None]) -> None:
        commands: list[Command] = [
            (b"HDEL", store_key(owner), b"run")
            if text is None
            else (b"HSET", store_key(owner), b"run", text.encode())
            for owner, text in said.items()
        ]
        _raise_first(await self._commands.exchange(commands) if commands else [])

    async def drop_group(self, stream: str, group: str) -> None:
        [reply] = await self._commands.exchange(
            [(b"XGROUP", b"DESTROY", stream.encode(), group.encode())]
        )
        if not _is(reply, "ERR", "NOGROUP"):  # there is no such stream
            _raise_first([reply])

    async def aclose(self) -> None:
        await self._commands.aclose()
        await self._readers.aclose()

    async def _send(
        self,
        owner: str,
        batch: Sequence[tuple[str, bytes]],
        groups: Sequence[list[int]],
        marker: Marker,
        watch: Sequence[tuple[str, str]],
    ) -> Published:
        """Look, append, mark, look: in one pipeline, so the mark never precedes its entries."""
        store, mark = store_key(owner), b"%d:%d" % (marker.epoch, marker.last)
        replies = await self._commands.exchange(
            [
                (b"HMGET", store, b"id", b"mark"),
                *[_append(batch, group) for group in groups],
                (b"HSET", store, b"id", marker.store_id.encode(), b"mark", mark),
                *[(b"HGET", accepted_key(receiver), field.encode()) for receiver, field in watch],
            ],
            shield=True,
        )
        before, *replies = replies
        appended, (marked, *held) = replies[: len(groups)], replies[len(groups) :]
        _raise_first(reply for reply in appended if _is(reply, *AWAY))
        _raise_first([before, marked, *held])
        failed = {
            at: str(reply)
            for group, reply in zip(groups, appended, strict=True)
            if isinstance(reply, OutboxdError)
            for at in group
        }
        accepted = {
            name: at
            for name, text in zip(watch, held, strict=True)
            if (at := decode_accepted(text)) is not None
        }
        return Published(failed, decode_marker(*before), accepted)

    async def _trim_in_two_steps(self, key: bytes, keep_after: bytes | None) -> int:
        """Without scripts: what a group created in between misses, its numbers will show."""
        _, groups = await self._commands.exchange(_look(key))
        if _is(groups, "ERR"):
            return 0
        _raise_first([groups])
        lows = [] if keep_after is None else [keep_after]
        for found in groups:
            low = found[b"last-delivered-id"]
            if found[b"pending"]:
                low = (await self._commands.ask(b"XPENDING", key, found[b"name"]))[1] or low
            lows.append(low)
        if not lows:
            return 0
        floor = min(lows, key=id_order)
        removed = await self._commands.ask(
            b"XTRIM", key, b"MINID", b"~", floor, b"LIMIT", TRIM_LIMIT
        )
        return int(removed)


def accepted_key(receiver: str) -> bytes:
    return b"outboxd:{%b}:accepted" % receiver.encode()


def store_key(owner: str) -> bytes:
    return b"outboxd:{%b}:store" % owner.encode()


def _by_stream(batch: Sequence[tuple[str, bytes]]) -> list[list[int]]:
    streams: dict[str, list[int]] = {}
    for at, (stream, _) in enumerate(batch):
        streams.setdefault(stream, []).append(at)
    return list(streams.values())


def _append(batch: Sequence[tuple[str, bytes]], group: list[int]) -> Command:
    key = batch[group[0]][0].encode()
    if len(group) == 1:
        return (b"XADD", key, b"*", b"e", batch[group[0]][1])
    return (b"EVAL", APPEND, b"1", key, *[batch[at][1] for at in group])


def _look(key: bytes) -> list[Command]:
    return [(b"XINFO", b"STREAM", key), (b"XINFO", b"GROUPS", key)]


def _entry(found: list[Any]) -> Entry:
    entry_id, fields = found
    if not fields:
        return Entry(entry_id, None)
    if len(fields) == 2 and fields[0] == b"e":
        return Entry(entry_id, fields[1])
    # A stranger's entry: no message, but it shall be seen, so its fields stand for the document.
    words = [word.decode(errors="replace") for word in fields]
    return Entry(entry_id, msgspec.json.encode(dict(zip(words[::2], words[1::2], strict=False))))


def _flat(accepted: Mapping[str, str]) -> list[bytes]:
    return [text.encode() for text in chain.from_iterable(accepted.items())]


def _is(reply: object, *codes: str) -> bool:
    return isinstance(reply, BrokerError) and reply.code in codes


def _raise_first(replies: Iterable[object]) -> None:
    for reply in replies:
        if isinstance(reply, OutboxdError):
            raise reply


def _all_denied(texts: Iterable[str]) -> bool:
    verdicts = [text.startswith("NOPERM") for text in texts]
    return bool(verdicts) and all(verdicts)
