"""One exchange with the broker: commands out, their replies or our errors back.

Every exchange has a deadline, uses its connection alone and is never retried: where it ends in
``Unavailable``, its outcome is unknown. The only module that names the client library; above it
nobody sees its exceptions, or a password.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from .errors import ConfigError, OutboxdError
from .stream import BrokerError, NoGroup, NotAllowed

DEADLINE_S = 3.0  # one exchange, the wait for a connection included
CONNECT_S = 2.0

# The server is there and does not do it now: never the fault of a message.
AWAY = {"LOADING", "OOM", "MISCONF", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS"}
AWAY |= {"UNBLOCKED", "BUSY", "TRYAGAIN", "MOVED", "ASK"}
# Whoever answers so is no longer the one to talk to; idle connections lead there as well.
DEPOSED = frozenset(("READONLY", "MASTERDOWN", "UNBLOCKED", "LOADING"))

GRANT = "a user needs ~outboxd:* +@read +@write +@scripting +@connection +info +config|get"

Command = tuple[bytes, ...]


class Wire:
    """Connections to one server, each used by one caller at a time.

    url: redis://, rediss:// or unix://; connections: how many at once, further callers wait;
    deadline_s: the longest that an exchange may take, the wait for a connection included.
    """

    def __init__(self, url: str, *, connections: int, deadline_s: float = DEADLINE_S) -> None:
        self.where, self._connection_class, self._settings = _address(url)
        self._deadline_s = deadline_s
        self._slots = anyio.Semaphore(connections, fast_acquire=True)
        self._idle: list[AbstractConnection] = []
        self._closed = False

    async def ask(self, *command: bytes, within_s: float | None = None) -> Any:
        """The reply to one command."""
        [reply] = await self.exchange([command], within_s=within_s)
        if isinstance(reply, OutboxdError):
            raise reply
        return reply

    async def exchange(
        self, commands: Sequence[Command], *, within_s: float | None = None, shield: bool = False
    ) -> list[Any]:
        """The reply to each command, in order; in the place of a refused one, our error."""
        data = b"".join([pack_command(cast(Any, command)) for command in commands])
        limit_s = within_s or self._deadline_s
        replies: list[Any] = []
        try:
            with anyio.move_on_after(limit_s, shield=shield) as deadline:
                async with self._slots:
                    replies = await self._converse(data, len(commands))
        except (RedisError, OSError) as error:
            raise await self._mapped(error) from error
        if deadline.cancelled_caught:
            raise await self._away(f"no answer within {limit_s:g} s")
        return [
            await self._mapped(reply, command) if isinstance(reply, RedisError) else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    async def aclose(self) -> None:
        """Close the idle connections; one that is in use goes with its exchange."""
        self._closed = True
        await self._drop_idle()

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(RedisError):
                await connection.disconnect()

    async def _converse(self, data: bytes, replies: int) -> list[Any]:
        connection = self._idle.pop() if self._idle else self._connection_class(**self._settings)
        writer = None
        try:
            # Something to read before anything was asked: closed by the server, or out of step.
            if connection.is_connected and await connection.can_read():
                await connection.disconnect(nowait=True)
            if not connection.is_connected:
                await connection.connect_check_health(retry_socket_connect=False)
            writer = connection._writer
            await connection.send_packed_command(data, check_health=False)
            answers = [await _answer(connection) for _ in range(replies)]
        except BaseException:
            if writer is not None:
                # Closing would flush: what is given up would arrive later, beside its repetition.
                writer.transport.abort()
            with anyio.CancelScope(shield=True):
                await connection.disconnect(nowait=True)
            raise
        if self._closed:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)
        return answers

    async def _mapped(self, error: RedisError | OSError, command: Command = ()) -> OutboxdError:
        # Over a unix socket the client wraps what the server answered to its greeting.
        if isinstance(error.__cause__, RedisError):
            error = error.__cause__
        text = str(error) or type(error).__name__
        code = getattr(error, "status_code", None) or text.split(" ", 1)[0]
        if not (code.isalpha() and code.isupper()):
            return await self._away(text)
        words = text if text.startswith(code) else f"{code} {text}"
        if code in DEPOSED:
            await self._drop_idle()
        return _answered(code, f"{words} ({self.where})", command)

    async def _away(self, text: str) -> BrokerError:
        await self._drop_idle()
        hint = "name the authority: ?ssl_ca_certs=FILE" if "CERTIFICATE_VERIFY" in text else None
        return BrokerError(f"{text} ({self.where})", hint=hint)


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as refusal:
        return refusal


def info_fields(reply: object) -> dict[str, str]:
    """The fields of INFO; none where it is forbidden."""
    lines = reply.decode(errors="replace").splitlines() if isinstance(reply, bytes) else []
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


def _address(url: str) -> tuple[str, type[AbstractConnection], dict[str, Any]]:
    """A name for people (never the password), the class of connection and its settings."""
    hint = "like redis://HOST:6379/0, rediss://HOST:6379/0 (TLS) or unix:///PATH/TO/SOCKET"
    try:
        parts = urlsplit(url)
        given: dict[str, Any] = {**parse_url(url)}
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ConfigError("the address of the broker is not one", hint=hint) from error
    if parts.scheme == "unix" and not given.get("path"):
        raise ConfigError("the address of the broker names no socket", hint=hint)
    connection_class = given.pop("connection_class", Connection)
    for ours in ("max_connections", "timeout"):  # settings of the client's pools
        given.pop(ours, None)
    settings = {
        **given,
        "protocol": 3,
        "legacy_responses": False,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "socket_timeout": None,  # the deadline of the exchange stands around everything
        "socket_connect_timeout": CONNECT_S,
        "health_check_interval": 0,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}", connection_class, settings


def _answered(code: str, words: str, command: Command) -> OutboxdError:
    """The meaning of an error that the server answered."""
    if code == "NOGROUP" or (code == "UNBLOCKED" and "no longer exists" in words):
        return NoGroup(words)
    if code in ("NOAUTH", "WRONGPASS", "NOPERM") or " AUTH " in words:
        return NotAllowed(words, hint=GRANT)
    if code == "WRONGTYPE":
        return ConfigError(
            f"{words}: the key {_key(command)} is another program's",
            hint="give outboxd a database of its own (redis://HOST/N), or remove that key",
        )
    if "unknown command" in words:
        return ConfigError(words, hint="outboxd needs Redis 7.0, Valkey 7.2 or newer")
    return BrokerError(words, code=code)


def _key(command: Command) -> str:
    match command:
        case (b"EVAL", _, _, key, *_) | (b"XGROUP" | b"XINFO", _, key, *_):
            pass
        case (b"XREADGROUP", *rest):
            key = rest[rest.index(b"STREAMS") + 1]
        case (_, key, *_):
            pass
        case _:
            key = b"?"
    return key.decode(errors="replace")
