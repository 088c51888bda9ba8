"""What servers answer, refuse and break off, and what of that reaches the rest of outboxd."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import anyio
import pytest

from outboxd.errors import ConfigError, Unavailable
from outboxd.redis_server import _checked
from outboxd.redis_stream import RedisStream
from outboxd.stream import BrokerError, NoGroup, Stream
from outboxd.stream import Server as Told
from tests.contract.brokers import MARK, RedisBroker, Server, bodies, ids, publish, read, until

pytestmark = pytest.mark.anyio


CALLS: dict[str, Callable[[Stream], Awaitable[object]]] = {
    "publish": lambda stream: stream.publish("me", [("s", b"1"), ("s", b"2")], MARK, []),
    "read": lambda stream: read(stream, "s"),
    "ack": lambda stream: stream.ack("s", "g", [b"1-1"], "g", {"sender:in": "1:1"}),
    "claim": lambda stream: stream.claim("s", "g", "c", min_idle_s=0, cursor=b"0-0", count=1),
    "trim": lambda stream: stream.trim("s"),
    "connect": lambda stream: stream.connect(),
}


async def is_away(redis: RedisBroker, code: str, *calls: str) -> None:
    """These calls end in Unavailable, with the server's code and its address."""
    for call in calls:
        with pytest.raises(BrokerError, match=re.escape(redis.server.url)) as caught:
            await CALLS[call](redis.stream)
        assert caught.value.code == code, call


async def test_the_server_introduces_itself(redis: RedisBroker) -> None:
    told = await redis.stream.connect()
    assert told.product in ("valkey", "redis")
    assert int(told.version.split(".")[0]) >= 7
    assert len(told.run_id) == 40
    assert (told.persistence, told.maxmemory_policy) == ("aof everysec", "noeviction")
    assert await redis.server.tell("DBSIZE") == 0


@pytest.mark.parametrize(("product", "version"), [("redis", "6.2.14"), ("redis", "5.0.3")])
def test_an_old_server_is_refused(product: str, version: str) -> None:
    with pytest.raises(ConfigError, match=version) as caught:
        _checked(Told(product, version, "", "none", None))
    assert caught.value.hint is not None


async def test_a_server_that_evicts_streams_is_refused(redis: RedisBroker) -> None:
    await redis.server.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigError, match="allkeys-lru") as caught:
        await redis.stream.connect()
    assert caught.value.hint == "CONFIG SET maxmemory-policy noeviction"
    await redis.server.tell("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    await redis.stream.connect()  # evicts only keys with a time to live; ours have none


async def test_used_up_memory_stops_publishing_and_nothing_else(redis: RedisBroker) -> None:
    stream = redis.stream
    await stream.ensure("s", "g")
    await publish(stream, "s", *[b"x" * 1000] * 300)
    entries = await read(stream, "s", count=200)
    await redis.server.tell("CONFIG", "SET", "maxmemory", "1mb")
    await is_away(redis, "OOM", "publish")
    await stream.connect()
    assert await stream.ensure("s", "late") is True
    assert await stream.ensure("s", "late") is False
    await stream.read("s", "late", "c", count=1000, block_s=None)
    await redis.destroy("s", "late")
    entries += await read(stream, "s")
    claimed = await stream.claim("s", "g", "d", min_idle_s=0, cursor=b"0-0", count=10)
    assert len(claimed.entries) == 10
    await stream.ack("s", "g", ids(entries), "g", {"sender:in": "1:300"})
    assert await stream.accepted("g") == {"sender:in": (1, 300, False)}
    assert await stream.trim("s") > 0
    await redis.server.tell("CONFIG", "SET", "maxmemory", "0")
    await publish(stream, "s", b"after")


async def test_a_disk_that_cannot_be_written_stops_everything_but_loses_nothing(
    redis: RedisBroker,
) -> None:
    stream, server = redis.stream, redis.server
    await stream.ensure("s", "g")
    gone = server.folder / "gone"
    gone.mkdir()
    await server.tell("CONFIG", "SET", "appendonly", "no")
    await server.tell("CONFIG", "SET", "dir", str(gone))
    await server.tell("CONFIG", "SET", "save", "3600 1")
    gone.rmdir()
    await publish(stream, "s", b"1")
    await server.tell("BGSAVE")

    async def has_failed() -> bool:
        return b"rdb_last_bgsave_status:err" in await server.tell("INFO", "persistence")

    await until(has_failed, "a failed save")
    await is_away(redis, "MISCONF", "publish", "read", "ack", "claim")
    await server.tell("CONFIG", "SET", "dir", str(server.folder))
    await server.tell("CONFIG", "SET", "save", "")
    assert bodies(await read(stream, "s")) == [b"1"]


async def test_too_few_replicas_are_an_outage(redis: RedisBroker) -> None:
    await redis.stream.ensure("s", "g")
    await redis.server.tell("CONFIG", "SET", "min-replicas-to-write", "1")
    await is_away(redis, "NOREPLICAS", "publish", "read", "ack", "claim")


async def test_a_demoted_server_is_an_outage_also_under_a_blocked_read(redis: RedisBroker) -> None:
    stream, server = redis.stream, redis.server
    await stream.ensure("s", "g")

    async def reader() -> None:
        with pytest.raises(BrokerError, match="UNBLOCKED"):
            await stream.read("s", "g", "c", count=1, block_s=30)

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await until_one_is_blocked(server)
            await server.tell("REPLICAOF", "127.0.0.1", "1")
    await is_away(redis, "READONLY", "publish", "read", "ack", "claim", "connect")
    await server.tell("CONFIG", "SET", "replica-serve-stale-data", "no")
    await is_away(redis, "MASTERDOWN", "trim")
    await server.tell("REPLICAOF", "NO", "ONE")
    await stream.connect()


async def test_a_busy_server_is_an_outage(redis: RedisBroker) -> None:
    await redis.stream.ensure("s", "g")
    await redis.server.tell("CONFIG", "SET", "busy-reply-threshold", "1")

    async def loop_for_ever() -> None:
        with pytest.raises(Unavailable):
            await redis.server.tell("EVAL", "while true do end", "0")

    async def is_busy() -> bool:
        try:
            await redis.server.tell("PING")
        except BrokerError as error:
            return error.code == "BUSY"
        return False

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop_for_ever)
        await until(is_busy, "a busy server")
        await is_away(redis, "BUSY", "publish", "read", "ack", "claim", "trim")
        await redis.server.tell("SCRIPT", "KILL")


async def test_a_missing_right_is_named(redis: RedisBroker) -> None:
    rules = ("~outboxd:*", "+@all", "-xack", "-xautoclaim", "-info", "-config")
    limited = await user(redis.server, "limited", *rules)
    with pytest.raises(ConfigError, match="XACK, XAUTOCLAIM") as caught:
        await limited.connect()
    assert "+@write" in str(caught.value.hint)
    await redis.server.tell("ACL", "SETUSER", "limited", "+xack", "+xautoclaim")
    told = await limited.connect()
    assert (told.run_id, told.persistence, told.maxmemory_policy) == ("", "unknown", None)
    await limited.aclose()


async def test_without_scripts_everything_works_the_slow_way(redis: RedisBroker) -> None:
    plain = await user(redis.server, "plain", "~*", "+@all", "-@scripting")
    await plain.ensure("s", "g")
    for _ in range(3):  # before it has learned it, and after
        await publish(plain, "s", *[b"x"] * 100)
    await plain.connect()
    await redis.refuse("bad")
    done = await plain.publish("sender", [("bad", b"1"), ("s", b"2"), ("s", b"3")], MARK, [])
    assert list(done.failed) == [0]
    entries = await read(plain, "s")
    assert len(entries) == 302
    await plain.ack("s", "g", ids(entries)[:250], "g", {})
    assert 0 < await plain.trim("s") <= 250
    assert await read(plain, "s", own=b"0") == entries[250:]
    assert await plain.trim("absent") == 0
    await plain.aclose()


async def test_a_key_out_of_bounds_fails_alone(redis: RedisBroker) -> None:
    bounded = await user(redis.server, "bounded", "~outboxd:{sender}:*", "~s", "+@all")
    await bounded.connect()
    done = await bounded.publish("sender", [("s", b"1"), ("t", b"2"), ("t", b"3")], MARK, [])
    assert list(done.failed) == [1, 2]
    assert done.failed[1].startswith("NOPERM")
    with pytest.raises(ConfigError, match="NOPERM"):
        await bounded.publish("sender", [("t", b"2")], MARK, [])
    with pytest.raises(ConfigError, match="NOPERM"):
        await bounded.ensure("t", "g")
    await bounded.aclose()


async def test_a_wrong_or_missing_password_is_a_matter_of_configuration(
    redis: RedisBroker,
) -> None:
    await redis.server.tell("CONFIG", "SET", "requirepass", "right")
    for password, code in (("", "NOAUTH"), (":s3cret@", "WRONGPASS")):
        stream = RedisStream(redis.server.url.replace("unix://", f"unix://{password}"))
        with pytest.raises(ConfigError, match=code) as caught:
            await stream.connect()
        assert "s3cret" not in f"{caught.value} {caught.value.hint}"
        await stream.aclose()


async def test_no_message_tells_the_password() -> None:
    stream = RedisStream("redis://me:s3cret@127.0.0.1:1/3?password=s3cret")
    with pytest.raises(Unavailable) as caught:
        await stream.connect()
    assert "redis://127.0.0.1:1/3" in caught.value.message
    assert "s3cret" not in caught.value.message
    assert "s3cret" not in stream.where


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:6379",
        "redis://h:port",
        "unix://",
        "redis://h?socket_read_size=x",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisStream(url)
    assert "redis://" in str(caught.value.hint)


async def test_an_address_cannot_switch_on_the_retries_of_the_client(redis: RedisBroker) -> None:
    odd = "?protocol=2&decode_responses=1&retry_on_timeout=1&max_connections=1&socket_timeout=0.001"
    stream = RedisStream(redis.server.url + odd)
    await stream.connect()
    await stream.ensure("s", "g")
    await publish(stream, "s", b"1", b"2")
    assert bodies(await read(stream, "s")) == [b"1", b"2"]
    await stream.aclose()


async def test_a_key_of_another_program_is_named(redis: RedisBroker) -> None:
    await redis.refuse("s")
    await redis.refuse("outboxd:{g}:accepted")
    for call in (
        redis.stream.ensure("s", "g"),
        read(redis.stream, "s"),
        redis.stream.trim("s"),
        redis.stream.position("s", "g"),
    ):
        with pytest.raises(ConfigError, match=r"WRONGTYPE.* key s "):
            await call
    with pytest.raises(ConfigError, match=r"WRONGTYPE.* key outboxd:\{g\}:accepted "):
        await redis.stream.ack("s", "g", [], "g", {"sender:in": "1:1"})


async def test_what_strangers_write_is_seen_and_does_no_harm(redis: RedisBroker) -> None:
    stream, server = redis.stream, redis.server
    await stream.ensure("s", "g")
    await server.tell("XADD", "s", "*", "order", "17", "note", "ä")
    await server.tell(
        "HSET", "outboxd:{g}:accepted", "a", "x", "b", "1:2:y", "c", "1:2", "d", "-1:2"
    )
    await server.tell("HSET", "outboxd:{sender}:store", "id", "x", "mark", "?")
    assert bodies(await read(stream, "s")) == ['{"order":"17","note":"ä"}'.encode()]
    assert await stream.accepted("g") == {"c": (1, 2, False)}
    assert await stream.marker("sender") is None


async def test_a_killed_connection_under_a_blocked_read_is_noticed_at_once(
    redis: RedisBroker,
) -> None:
    stream, server = redis.stream, redis.server
    await stream.ensure("s", "g")

    async def reader() -> None:
        with pytest.raises(Unavailable):
            await stream.read("s", "g", "c", count=1, block_s=30)

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await until_one_is_blocked(server)
            await server.tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await publish(stream, "s", b"1")
    assert bodies(await stream.read("s", "g", "c", count=1, block_s=5)) == [b"1"]


async def test_connections_that_died_while_idle_are_not_used(redis: RedisBroker) -> None:
    stream, server = redis.stream, redis.server
    await stream.ensure("s", "g")
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(stream.last_id, "s")
    server.kill()
    with pytest.raises(Unavailable):
        await stream.last_id("s")
    server.start()
    for _ in range(8):
        await stream.last_id("s")


async def test_a_frozen_server_holds_no_call_longer_than_its_deadline(redis: RedisBroker) -> None:
    stream = RedisStream(redis.server.url, deadline_s=0.3)
    await stream.ensure("s", "g")
    batch = [("s", b"x" * 100_000)] * 50  # more than the socket takes
    calls = (
        lambda: stream.publish("sender", batch, MARK, []),
        lambda: stream.read("s", "g", "c", count=1, block_s=0.1),
        lambda: stream.read("s", "g", "c", count=1, block_s=None, own=b"0"),
        lambda: stream.ack("s", "g", [b"1-1"], "g", {"sender:in": "1:1"}),
        lambda: stream.connect(),
    )
    redis.server.freeze()
    for call in calls:
        with anyio.fail_after(15), pytest.raises(Unavailable, match="no answer within"):
            await call()
    # Also where every connection is taken by a caller that waits.
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(is_unavailable, stream)
    redis.server.thaw()
    await publish(stream, "s", b"after")
    assert bodies(await read(stream, "s")) == [b"after"]  # nothing arrives that was given up
    await stream.aclose()


async def test_a_publish_and_an_ack_finish_though_their_caller_is_cancelled(
    redis: RedisBroker,
) -> None:
    stream = redis.stream
    await stream.ensure("s", "g")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.publish("sender", [("s", b"1")], MARK, [])
    entries = await read(stream, "s")
    assert bodies(entries) == [b"1"]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.ack("s", "g", ids(entries), "g", {})
    assert (await stream.position("s", "g")).pending == 0


async def test_a_cancelled_call_does_not_mix_up_later_answers(redis: RedisBroker) -> None:
    stream = redis.stream
    await stream.ack("s", "g", [], "g", {"sender:in": "1:1"})
    for at in range(50):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.accepted, "g")
                for _ in range(at % 6):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        assert await stream.last_id("s") == b"0-0"
        assert await stream.accepted("g") == {"sender:in": (1, 1, False)}


async def test_over_tcp_all_is_the_same(redis: RedisBroker) -> None:
    await redis.server.tell("CONFIG", "SET", "port", "0")
    port = await free_port(redis.server)
    stream = RedisStream(f"redis://127.0.0.1:{port}/5")
    await stream.connect()
    await stream.ensure("s", "g")
    await publish(stream, "s", b"1", b"2")
    assert bodies(await stream.read("s", "g", "c", count=9, block_s=1)) == [b"1", b"2"]
    with pytest.raises(NoGroup):
        await read(redis.stream, "s")  # another database
    await stream.aclose()


async def user(server: Server, name: str, *rules: str) -> RedisStream:
    """A stream that speaks as a user with these rights."""
    await server.tell("ACL", "SETUSER", name, "on", ">pw", *rules)
    return RedisStream(server.url.replace("unix://", f"unix://{name}:pw@"))


async def is_unavailable(stream: RedisStream) -> None:
    with pytest.raises(Unavailable):
        await stream.last_id("s")


async def until_one_is_blocked(server: Server) -> None:
    async def is_blocked() -> bool:
        return b"blocked_clients:1\r" in await server.tell("INFO", "clients")

    await until(is_blocked, "a blocked client")


async def free_port(server: Server) -> int:
    """Let the server listen on some port of its machine."""
    for port in range(20_000, 30_000, 97):
        try:
            await server.tell("CONFIG", "SET", "port", str(port))
        except Unavailable:
            continue
        return port
    raise AssertionError("no free port")
