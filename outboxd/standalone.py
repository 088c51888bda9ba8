"""The outbox alone, in an application's own SQLite file: its transaction is the one that counts.

The application inserts into ``outboxd_send`` beside its own rows; here the rows get their numbers
and travel as all messages do: in order, at least once, kept until every receiver holds them.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import anyio
import msgspec

from .batch import Outcome
from .clock import Clock
from .delivery import Delivery
from .errors import ConfigError, Refused, Unavailable, first_of
from .hosted import Hosted
from .message import (
    MAX_KEY,
    Command,
    Envelope,
    Event,
    Message,
    TooBig,
    encode_raw,
    in_stream,
    key_of,
)
from .participant import Participant
from .runtime import Runtime
from .store import application
from .store.connection import Connection
from .stream import Stream

log = logging.getLogger("outboxd")

LOOK_S = 0.05
"""Between two looks whether another connection has committed: some microseconds each."""

BATCH = 500


class Executes(Protocol):
    """What ``add`` needs of the application's connection: ``sqlite3.Connection`` has it."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any: ...


class Outbox:
    """The outbox of an application that hosts no participant.

    ``path``: the application's SQLite file; ``name``: as whom it sends, like a participant's name;
    ``data``: a directory for what is not the application's (default: ``NAME.outboxd`` beside the
    file); ``redis``: the broker's URL, or None for an embedded one.

    ``async with Outbox(...)`` relays until the block ends; one process at a time may do so, and any
    number may write. The file is put into WAL mode; a writer waits for others by its busy timeout.
    """

    schema = application.SCHEMA
    """The table's SQL, for who wants to create it before the relay has run."""

    def __init__(
        self,
        path: Path | str,
        *,
        name: str,
        data: Path | str | None = None,
        redis: str | None = None,
        drain_s: float = 10.0,
        clock: Clock | None = None,
        stream: Stream | None = None,
    ) -> None:
        self.name = name
        self.path = Path(path).absolute()
        self.data = Path(data) if data is not None else self.path.with_name(f"{name}.outboxd")
        self._runtime = Runtime(
            [Participant(name)],
            data=self.data,
            redis=redis,
            drain_s=drain_s,
            clock=clock,
            stream=stream,
        )

    def add(self, connection: Executes, message: Message) -> None:
        """Sends ``message`` if and only if the application's transaction commits.

        An event goes to whoever subscribes, a command to its participant; nobody answers it here.
        Raises ConfigError for an event of another source.
        """
        spec = message.__outboxd__
        if isinstance(message, Event) and spec.source != self.name:
            raise ConfigError(
                f"{type(message).__name__} is published by {spec.source}, not by {self.name}"
            )
        connection.execute(
            "INSERT INTO outboxd_send (type, key, data, recipient) VALUES (?, ?, ?, ?)",
            (
                type(message).__name__,
                key_of(message),
                bytes(encode_raw(message)).decode(),
                spec.to if isinstance(message, Command) else None,
            ),
        )

    async def __aenter__(self) -> Outbox:
        self._open = self._relaying()
        await self._open.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._open.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _relaying(self) -> AsyncIterator[None]:
        self._bind()
        try:
            async with self._runtime:
                await self._hosted.database.write(application.prepare)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._collect)
                    yield
                    tasks.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise first_of(errors) from errors

    async def drained(self) -> None:
        """Returns once everything that was committed before is held by its receivers."""
        while await self._hosted.database.read(application.count):  # noqa: ASYNC110 - commits of others
            await anyio.sleep(LOOK_S)
        await self._runtime.until_idle()

    @property
    def _hosted(self) -> Hosted:
        return self._runtime.hosted[self.name]

    def _bind(self) -> None:
        """The participant's database *is* the application's file: a link, which SQLite follows.

        So every command reads it: ``outboxd status --data NAME.outboxd``. Raises ConfigError.
        """
        link = self.data / f"{self.name}.db"
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(self.path)
        except OSError as err:
            raise ConfigError(
                f"cannot use {err.filename or self.path}: {err.strerror}",
                hint="name a writable file, and a directory for the rest with data=",
            ) from err
        if link.resolve() != self.path.resolve():
            raise Refused(
                f"{self.data} belongs to {link.resolve()}, not to {self.path}",
                hint="give each file a directory of its own with data=",
            )

    async def _collect(self) -> None:
        version = -1
        database = self._hosted.database
        while True:
            try:
                seen = await database.read(_data_version)
                if seen != version:
                    version = seen
                    await self._take_all()
            except Unavailable as err:
                version = -1
                log.warning("outbox_waits path=%s error=%r", self.path, str(err))
                await anyio.sleep(1.0)
            await anyio.sleep(LOOK_S)

    async def _take_all(self) -> None:
        hosted = self._hosted
        while await hosted.database.read(application.count):
            await hosted.committer.commit(lambda cx: collect(hosted.delivery, cx))


def collect(delivery: Delivery, connection: Connection) -> Outcome:
    """Moves what waits in the application's table into the outbox, by one commit."""
    with delivery.batch(connection) as batch:
        rows = application.waiting(connection, BATCH)
        taken = []
        for row in rows:
            envelope = _envelope(delivery.name, row, batch.time)
            try:
                _check(row)
                if row.recipient is None:
                    batch.publish(envelope)
                else:
                    batch.send(in_stream(row.recipient), envelope)
            except (TooBig, Refused) as err:
                application.refuse(connection, row, err.message)
                batch.note("message_refused", n=row.n, type=row.type, error=err.message)
                continue
            taken.append(row)
        application.remove(connection, taken)
    return batch.outcome


def _envelope(name: str, row: application.Row, at: Any) -> Envelope:
    # Numbers of rows begin anew in a file that was restored: the id must not.
    message_id = f"{name}.{row.n}.{uuid.uuid4().hex[:8]}"
    return Envelope(
        specversion="1.0",
        id=message_id,
        type=row.type,
        source=name,
        time=at,
        subject=row.key,
        data=msgspec.Raw(row.data.encode()),
        kind="event" if row.recipient is None else "command",
        correlationid=message_id,
    )


def _check(row: application.Row) -> None:
    for what, text in (("key", row.key or ""), ("type", row.type)):
        if len(text) > MAX_KEY:
            raise Refused(f"its {what} has {len(text):,} characters, the limit is {MAX_KEY:,}")
    try:
        msgspec.json.decode(row.data, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as err:
        raise Refused(f"its data is no JSON object: {err}") from err


def _data_version(connection: Connection) -> int:
    found: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return found
