"""What server answers, and whether it can do the work: asked at every connect, before all else.

Refuses a server that is too old, one that evicts, and a user that may not run what is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import ConfigError
from .stream import BrokerError, NotAllowed, Server
from .wire import DEPOSED, GRANT, Command, Wire, info_fields

MIN_VERSION = (7, 0)

# Tried at each connect, each without effect on a key that is not there.
_KEY = b"outboxd:{outboxd}:rights"
RIGHTS: tuple[Command, ...] = (
    (b"XADD", _KEY, b"NOMKSTREAM", b"*", b"e", b""),
    (b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", _KEY, b">"),
    (b"XACK", _KEY, b"g", b"0-1"),
    (b"XAUTOCLAIM", _KEY, b"g", b"c", b"0", b"0-0"),
    (b"XPENDING", _KEY, b"g"),
    (b"XTRIM", _KEY, b"MINID", b"0"),
    (b"XINFO", b"STREAM", _KEY),
    (b"XINFO", b"GROUPS", _KEY),
    (b"XGROUP", b"CREATE", _KEY, b"g", b"0"),
    (b"HSET", _KEY, b"field", b"value", b"field without value"),
    (b"HGET", _KEY, b"field"),
    (b"HMGET", _KEY, b"field"),
    (b"HGETALL", _KEY),
    (b"EVAL", b"return 1", b"0"),
)


async def greet(wire: Wire) -> tuple[Server, bool]:
    """The server, and whether it runs scripts.

    Raises ConfigError for one that cannot do the work, NotAllowed for a user that may not.
    """
    greeting, info, fsync, save, *tried = await wire.exchange(
        [
            (b"HELLO", b"3"),
            (b"INFO",),
            (b"CONFIG", b"GET", b"appendfsync"),
            (b"CONFIG", b"GET", b"save"),
            *RIGHTS,
        ]
    )
    for reply in (greeting, *tried):
        if isinstance(reply, BrokerError) and reply.code in DEPOSED:
            raise reply
    missing = _missing_rights(tried)
    if missing - {"EVAL"}:
        raise NotAllowed(
            f"the user at {wire.where} may not run {', '.join(sorted(missing))}", hint=GRANT
        )
    server = _checked(_server(greeting, info_fields(info), _setting(fsync), _setting(save)))
    return server, "EVAL" not in missing


def _missing_rights(replies: Sequence[object]) -> set[str]:
    """The commands of RIGHTS that the server refused to this user, or does not have."""
    return {
        b" ".join(command[: 1 + (command[0] in (b"XINFO", b"XGROUP"))]).decode()
        for command, reply in zip(RIGHTS, replies, strict=True)
        if isinstance(reply, ConfigError)
        and (" run the " in str(reply) or "unknown command" in str(reply))
    }


def _setting(reply: object) -> str | None:
    """The value of the one setting that was asked for; None where that is forbidden."""
    values = list(reply.values()) if isinstance(reply, dict) else []
    return values[0].decode(errors="replace") if values else None


def _server(
    greeting: dict[bytes, Any], info: dict[str, str], fsync: str | None, save: str | None
) -> Server:
    product = info.get("server_name") or greeting[b"server"].decode()
    version = info.get(f"{product}_version") or greeting[b"version"].decode()
    if info.get("loading") == "1":
        raise BrokerError("LOADING the server reads its data", code="LOADING")
    if info.get("role", "master") != "master":
        raise BrokerError("READONLY the server is a replica", code="READONLY")
    persistence = "unknown"
    if info.get("aof_enabled") == "1":
        persistence = f"aof {fsync}" if fsync else "aof"
    elif save is not None:
        persistence = "rdb" if save else "none"
    policy = info.get("maxmemory_policy")
    return Server(product, version, info.get("run_id", ""), persistence, policy)


def _checked(server: Server) -> Server:
    release = tuple(int(part) for part in server.version.split(".")[:2] if part.isdigit())
    if release < MIN_VERSION:
        raise ConfigError(
            f"the server is {server.product} {server.version}",
            hint="outboxd needs Redis 7.0, Valkey 7.2 or newer",
        )
    if server.maxmemory_policy and server.maxmemory_policy.startswith("allkeys-"):
        raise ConfigError(
            f"the server evicts streams when memory is short ({server.maxmemory_policy})",
            hint="CONFIG SET maxmemory-policy noeviction",
        )
    return server
