"""The task group: opens, starts, drains, stops; the only module that knows every service.

Embedded in an application: ``async with Runtime(...) as runtime``. On its own: ``serve``, which
adds signals, a feed and an end when idle.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskGroup, TaskStatus

from . import __version__, catalog, feedfile, monitor, requests
from .batch import Outcome
from .clock import Clock, SystemClock, utc
from .embedded import Embedded
from .errors import (
    Cancelled,
    ConfigError,
    NotFound,
    OutboxdError,
    Refused,
    Rejected,
    Unavailable,
)
from .hosted import Hosted
from .janitor import Janitor
from .message import (
    Command,
    Envelope,
    decode_data,
    encode,
    encode_raw,
    events_stream,
    in_stream,
    key_of,
)
from .participant import Participant
from .redis_stream import RedisStream
from .registry import Registry
from .settings import Settings
from .store import control, journal
from .store.connection import Connection, Database
from .stream import Stream
from .wake import Outage, Wake
from .watchdog import Watchdog

log = logging.getLogger("outboxd")

FEED_BATCH = 200
FEED_OPEN = 4000
"""Sagas under way above which a feed waits: memory stays bounded, latency too."""

POLL_S = 0.05
CONTROL_S = 0.25


class Progress(msgspec.Struct, frozen=True):
    """How far it is; counts of everything in the data directory, except of the feed's lines."""

    read: int = 0
    refused: int = 0
    started: int = 0
    completed: int = 0
    compensated: int = 0
    cancelled: int = 0
    stuck: int = 0
    dead: int = 0
    open: int = 0
    broker: str = "up"
    elapsed_s: float = 0.0


class Summary(msgspec.Struct, frozen=True):
    """How it ended: ``idle``, ``stopped`` or ``interrupted``; and which invariants do not hold."""

    progress: Progress
    ended: str
    violations: list[str]


class Handle:
    """A started saga. ``id`` finds it again after a restart."""

    def __init__(self, runtime: Runtime, saga_id: str, participant: str) -> None:
        self.id = saga_id
        self._runtime = runtime
        self._participant = participant

    async def result(self) -> Any:
        """Waits for the saga's end and returns its result.

        Raises Rejected with the reason if it was compensated, Cancelled if it was cancelled.
        """
        return await self._runtime.result_of(self._participant, self.id)


class Runtime:
    """Hosts participants in this process.

    ``participants``: what to host; ``data``: the data directory; ``redis``: the broker's URL, or
    None for the embedded one; ``node``: this node's id; ``drain_s``: seconds that work in hand gets
    at the end. Raises ConfigError, or Refused when another process has the directory.
    """

    def __init__(
        self,
        participants: Sequence[Participant] | Registry,
        *,
        data: Path | str = "outboxd-data",
        redis: str | None = None,
        node: str | None = None,
        drain_s: float = 10.0,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        stream: Stream | None = None,
    ) -> None:
        self.registry = (
            participants if isinstance(participants, Registry) else Registry(participants)
        )
        self.data = Path(data)
        self.hosted: dict[str, Hosted] = {}
        self.broker_error: str | None = None
        self._clock = clock or SystemClock()
        self._chance = chance
        self._redis = redis
        self._node = node or ""
        self._drain_s = drain_s
        self._given_stream = stream
        self._embedded: Embedded | None = None
        self._stop = anyio.Event()
        self._done = anyio.Event()
        self._ended: dict[str, anyio.Event] = {}
        self._control_wake = Wake()
        self._started_at = self._clock.now()
        self._intakes = 0
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Runtime:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        try:
            await self._group.start(self.run)
        except BaseException as err:
            await self._group.__aexit__(type(err), err, err.__traceback__)
            raise
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        self.stop()
        assert self._group is not None
        return await self._group.__aexit__(kind, error, trace)

    def stop(self) -> None:
        """Begins the end: intake stops, work in hand is finished, then everything closes."""
        self._stop.set()

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Everything, from the lock of the data directory to the end of the embedded broker."""
        with _claimed(self.data):
            self._node = self._node or _node_id(self.data)
            os.environ["OUTBOXD_DATA"] = str(self.data.resolve())
            async with AsyncExitStack() as stack:
                stream = await stack.enter_async_context(self._broker())
                pumps = await stack.enter_async_context(self._databases())
                async with anyio.create_task_group() as work, anyio.create_task_group() as services:
                    await self._start(stream, work, services, pumps)
                    task_status.started()
                    await self._stop.wait()
                    services.cancel_scope.cancel()
                    await self._drain(work)
            (self.data / "daemon.json").unlink(missing_ok=True)
        self._done.set()

    # Opening.

    @asynccontextmanager
    async def _broker(self) -> AsyncIterator[Stream]:
        if self._given_stream is not None:
            yield self._given_stream
            return
        url = self._redis
        if url is None:
            self._embedded = Embedded(self.data)
            url = await self._embedded.start()
        stream = RedisStream(url)
        try:
            yield stream
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
                if self._embedded is not None:
                    await self._embedded.stop()

    @asynccontextmanager
    async def _databases(self) -> AsyncIterator[TaskGroup]:
        self.control = Database(self.data / control.FILE)
        for participant in self.registry.participants.values():
            self.hosted[participant.name] = Hosted(
                participant, self.registry, self.data, self._clock, self._chance
            )
        databases = [self.control, *(h.database for h in self.hosted.values())]
        async with anyio.create_task_group() as pumps:
            try:
                for database in databases:
                    await database.open()
                    pumps.start_soon(database.run)
                for hosted in self.hosted.values():
                    await hosted.prepare()
                await self.control.write(self._write_catalog)
                yield pumps
            finally:
                for database in databases:
                    await database.close()
                pumps.cancel_scope.cancel()

    def _write_catalog(self, connection: Connection) -> None:
        control.prepare(connection)
        control.put_catalog(connection, catalog.entries(self.registry))

    async def _start(
        self, stream: Stream, work: TaskGroup, services: TaskGroup, pumps: TaskGroup
    ) -> None:
        suspects = anyio.Lock()
        for hosted in self.hosted.values():
            hosted.wire(stream, work, suspects)
            hosted.committer.after.append(self._hear)
            await services.start(self._live, hosted)
        await services.start(self._connect, stream, services)
        janitor = Janitor(
            [name(h.name) for h in self.hosted.values() for name in (in_stream, events_stream)],
            [h.database for h in self.hosted.values()],
            self._clock,
        )
        self._janitor = janitor
        self._stream = stream
        services.start_soon(janitor.run, stream)
        services.start_soon(self._apply_requests)
        services.start_soon(self._write_status)
        services.start_soon(Watchdog([h.database for h in self.hosted.values()]).run)

    async def _live(
        self, hosted: Hosted, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        """Holds a participant's lifespan open; it ends in the task in which it began."""
        lifespan = hosted.participant.lifespan
        if lifespan is None:
            task_status.started()
            return
        async with lifespan() as resource:
            hosted.effects.resource = resource
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await hosted.effects.drain(self._drain_s)

    # The broker.

    async def _connect(
        self,
        stream: Stream,
        services: TaskGroup,
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        """Starts what needs the broker once it answers; then sees to the embedded one."""
        outage = Outage()
        while True:
            try:
                await stream.connect()
                for hosted in self.hosted.values():
                    await hosted.claim(stream)
                break
            except Unavailable as err:
                outage.failed()
                self._on_outage(str(err), True)
                if outage.failures == 1:
                    task_status.started()
                await anyio.sleep(outage.pause_s)
        self._on_outage("", False)
        for hosted in self.hosted.values():
            await hosted.start(stream, self._node, services, self._on_outage)
        if not outage.failures:
            task_status.started()
        await self._tend(stream, services)

    async def _tend(self, stream: Stream, services: TaskGroup) -> None:
        while True:
            for hosted in self.hosted.values():
                hosted.read_events(stream, self._node, services, self._on_outage)
            if self._embedded is not None:
                try:
                    await self._embedded.ensure()
                except Unavailable as err:
                    self._on_outage(str(err), True)
            await anyio.sleep(POLL_S if self._waits_for_subscriptions() else 0.25)

    def _waits_for_subscriptions(self) -> bool:
        return any(
            len([k for k in h.delivery.holding.senders if k[1] == "events"]) + 1 != len(h.consumers)
            or h.missing_subscriptions
            for h in self.hosted.values()
        )

    def _on_outage(self, error: str, is_down: bool) -> None:
        """Says so once when the broker goes, and once when it is back."""
        if is_down and self.broker_error is None:
            self.broker_error = error
            log.warning("broker unreachable, retrying; committed work is safe: %s", error)
        elif not is_down and self.broker_error is not None:
            self.broker_error = None
            log.warning("broker is back")

    # The end.

    async def _drain(self, work: TaskGroup) -> None:
        with anyio.CancelScope(shield=True):
            for hosted in self.hosted.values():
                await hosted.effects.drain(self._drain_s)
        work.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            for hosted in self.hosted.values():
                await hosted.effects.drain(1.0)
                if not hosted.effects.running:
                    await hosted.close_cleanly()

    # What comes from outside.

    async def start(self, command: Command[Any], *, message_id: str | None = None) -> Handle:
        """Starts the saga that begins with ``command``; durable when it returns.

        A second start with the same key finds the first one. Raises NotFound if no hosted
        participant starts a saga on it.
        """
        owner, saga_id, envelope = self._to_start(command, message_id)
        await self.hosted[owner].submit([envelope])
        return Handle(self, saga_id, owner)

    async def start_all(self, commands: Sequence[Command[Any]]) -> list[Handle]:
        """Starts many sagas of one participant in one transaction; see ``start``."""
        found = [self._to_start(command, None) for command in commands]
        owners = {owner for owner, _, _ in found}
        for name in owners:
            await self.hosted[name].submit([e for owner, _, e in found if owner == name])
        return [Handle(self, saga_id, owner) for owner, saga_id, _ in found]

    def _to_start(self, command: Command[Any], message_id: str | None) -> tuple[str, str, Envelope]:
        name = type(command).__name__
        owner = self.registry.owner(name)
        kind = None if owner is None else self.registry.saga_started_by(owner, name)
        if owner is None or kind is None:
            raise NotFound(f"no hosted participant starts a saga on {name}")
        key = key_of(command) or ""
        message_id = message_id or f"start-{uuid.uuid4().hex}"
        envelope = Envelope(
            specversion="1.0",
            id=message_id,
            type=name,
            source="runtime",
            time=utc(self._clock.now()),
            subject=key,
            data=encode_raw(command),
            kind="command",
            correlationid=message_id,
        )
        return owner, self.hosted[owner].delivery.conductor.id_of(kind, key), envelope

    async def result_of(self, participant: str, saga_id: str) -> Any:
        """Waits for the end of a saga; see ``Handle.result``."""
        hosted = self.hosted[participant]
        ended = self._ended.setdefault(saga_id, anyio.Event())
        row = await hosted.database.read(lambda cx: journal.get_saga(cx, saga_id))
        if row is None or row.ended_at is None:
            await ended.wait()
            row = await hosted.database.read(lambda cx: journal.get_saga(cx, saga_id))
        self._ended.pop(saga_id, None)
        if row is None:
            raise NotFound(f"there is no saga {saga_id}")
        if row.state == "cancelled":
            raise Cancelled(row.reason or "cancelled")
        if row.state == "compensated":
            raise Rejected(row.reason or "compensated")
        kind = self.registry.saga_named(participant, row.name)
        return decode_data(row.result or b"null", kind.result if kind else Any)

    async def feed(self, path: Path, count: Callable[[bool], None]) -> None:
        """Takes the lines of a file; ``count(was_taken)`` is called for each."""
        await self._until_subscribed()
        pending: dict[str, list[Envelope]] = {}
        for item in feedfile.read(path, self.registry, utc(self._clock.now())):
            count(isinstance(item, feedfile.Taken))
            if isinstance(item, feedfile.Refusal):
                log.error("%s:%d: %s", path, item.number, item.reason)
                continue
            batch = pending.setdefault(item.owner, [])
            batch.append(item.envelope)
            if len(batch) >= FEED_BATCH:
                await self._submit(item.owner, pending.pop(item.owner))
        for owner, batch in pending.items():
            await self._submit(owner, batch)

    async def _submit(self, owner: str, envelopes: list[Envelope]) -> None:
        hosted = self.hosted[owner]
        while hosted.delivery.conductor.book.tally.running > FEED_OPEN:
            await anyio.sleep(POLL_S)
        await hosted.submit(envelopes)

    async def _until_subscribed(self) -> None:
        """The first messages wait until local subscribers are known to their publishers."""
        while any(set(h.missing_subscriptions) & set(self.hosted) for h in self.hosted.values()):
            await anyio.sleep(POLL_S / 5)

    async def _apply_requests(self) -> None:
        version = -1
        await self._until_subscribed()
        while True:
            try:
                seen = await self.control.read(
                    lambda cx: cx.execute("PRAGMA data_version").fetchone()[0]
                )
                if seen != version:
                    version = seen
                    for request in await self.control.read(lambda cx: control.pending(cx, 500)):
                        await self._apply(request)
            except Unavailable as err:
                log.warning("requests_wait error=%r", str(err))
            await self._control_wake.wait_or(CONTROL_S)

    async def _apply(self, request: control.Request) -> None:
        hosted = self.hosted.get(request.participant)
        try:
            if hosted is None:
                raise Refused(f"{request.participant} is not hosted here")
            delivery = hosted.delivery
            outcome = await hosted.committer.commit(lambda cx: delivery.apply(cx, request))
            state, result = "applied", outcome.answer
        except Refused as err:
            state, result = "refused", requests.problem(err)
        now = self._clock.now()
        await self.control.write(
            lambda cx: control.mark(cx, request.id, state, result, now)  # type: ignore[arg-type]
        )

    # What it says of itself.

    def progress(self) -> Progress:
        """Counts over all participants."""
        tallies = [h.delivery.conductor.book.tally for h in self.hosted.values()]
        return Progress(
            started=sum(sum(msgspec.structs.astuple(tally)) for tally in tallies),
            completed=sum(t.completed for t in tallies),
            compensated=sum(t.compensated for t in tallies),
            cancelled=sum(t.cancelled for t in tallies),
            stuck=sum(t.stuck for t in tallies),
            dead=sum(h.delivery.letters.count for h in self.hosted.values()),
            open=sum(t.running + t.compensating for t in tallies),
            broker="up" if self.broker_error is None else f"down: {self.broker_error}",
            elapsed_s=self._clock.now() - self._started_at,
        )

    async def until_idle(self) -> None:
        """Returns once nothing is under way: seen twice, with no commit in between."""
        before = -1
        while True:
            commits = sum(h.database.commits for h in self.hosted.values())
            if commits == before and all(h.is_idle for h in self.hosted.values()):
                if not await self.control.read(lambda cx: control.pending(cx, 1)):
                    break
            before = commits
            await anyio.sleep(POLL_S)
        await self._janitor.trim(self._stream)

    def violations(self) -> list[str]:
        """A sentence for each stated invariant that does not hold; blocks."""
        return monitor.check_invariants(self.data, self.registry)

    def _hear(self, outcome: Outcome) -> None:
        for saga_id in outcome.ended:
            ended = self._ended.get(saga_id)
            if ended is not None:
                ended.set()

    async def _write_status(self) -> None:
        path, fresh = self.data / "daemon.json", self.data / "daemon.json.new"
        since = self._clock.now()
        was_down: str | None = None
        while True:
            if self.broker_error != was_down:
                was_down, since = self.broker_error, self._clock.now()
            status = {
                "pid": os.getpid(),
                "node": self._node,
                "started_at": self._started_at,
                "at": self._clock.now(),
                "version": __version__,
                "redis": getattr(self._stream, "where", "memory"),
                "broker": {
                    "state": "down" if was_down else "up",
                    "since": since,
                    "error": was_down,
                },
                "participants": list(self.hosted),
                "problems": [p for h in self.hosted.values() for p in h.delivery.problems],
            }
            try:
                fresh.write_bytes(encode(status))
                fresh.replace(path)
            except OSError as err:
                log.warning("status_not_written error=%r", str(err))
            await anyio.sleep(1.0)

    def abandon(self) -> None:
        """The very end, at once: as safe as a kill, but the embedded broker is told to go."""
        if self._embedded is not None:
            self._embedded.terminate()
        os._exit(130)


@contextmanager
def _claimed(data: Path) -> Iterator[None]:
    """The data directory, ours alone while the process lives."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise ConfigError(
            f"cannot use the data directory {data}: {err.strerror}",
            hint="name a writable one with --data DIR",
        ) from err
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            raise Refused(
                f"another outboxd (pid {holder}) runs on {data}",
                hint="stop it first, or name another directory with --data DIR",
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield
    finally:
        os.close(lock)


def _node_id(data: Path) -> str:
    """This node's id, made once: a restart reads its own pending entries under the same name."""
    path = data / "node"
    if not path.exists():
        path.write_text(f"node-{uuid.uuid4().hex[:8]}")
    return path.read_text().strip()


async def serve(
    registry: Registry,
    settings: Settings,
    *,
    feed: Path | None,
    until_idle: bool,
    report: Callable[[Progress], None],
) -> Summary:
    """Runs until idle, a signal, or an error; ``report`` is called a few times a second.

    The first SIGINT or SIGTERM drains, a second SIGINT stops at once. Raises OutboxdError.
    """
    runtime = Runtime(
        registry,
        data=settings.data,
        redis=settings.redis,
        node=settings.node,
        drain_s=settings.drain,
    )
    lines = {True: 0, False: 0}
    ended = "stopped"

    def progress() -> Progress:
        return msgspec.structs.replace(
            runtime.progress(), read=sum(lines.values()), refused=lines[False]
        )

    async def watch_signals(scope: anyio.CancelScope) -> None:
        interrupts = 0
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                interrupts += 1
                if interrupts > 1 and number == signal.SIGINT:
                    runtime.abandon()
                if interrupts == 1:
                    in_hand = sum(len(h.effects.running) for h in runtime.hosted.values())
                    again = "; again to stop now" if number == signal.SIGINT else ""
                    log.warning("stopping, %d in hand, %g s%s", in_hand, settings.drain, again)
                    scope.cancel()

    async def keep_reporting() -> None:
        while True:
            report(progress())
            await anyio.sleep(0.2)

    violations: list[str] = []
    try:
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            group.start_soon(watch_signals, scope)
            async with runtime:
                group.start_soon(keep_reporting)
                with scope:
                    if feed is not None:
                        await runtime.feed(
                            feed, lambda taken: lines.update({taken: lines[taken] + 1})
                        )
                    if until_idle:
                        await runtime.until_idle()
                        ended = "idle"
                        violations = await anyio.to_thread.run_sync(runtime.violations)
                    else:
                        await anyio.sleep_forever()
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors
    return Summary(progress(), ended, violations)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show: a user's error if there is one, else the first."""
    flat: list[BaseException] = []
    queue: list[BaseException] = [errors]
    while queue:
        error = queue.pop(0)
        if isinstance(error, BaseExceptionGroup):
            queue += error.exceptions
        else:
            flat.append(error)
    known = [error for error in flat if isinstance(error, OutboxdError)]
    return known[0] if known else flat[0]
