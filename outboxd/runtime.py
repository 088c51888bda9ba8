"""The task group: opens, starts, drains, stops; the only module that knows every service.

Embedded in an application: ``async with Runtime(...) as runtime``. On its own: ``serving.serve``.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import anyio
import msgspec
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskGroup, TaskStatus

from . import __version__, catalog, datadir
from .batch import Outcome
from .broker import TEND_S, Broker
from .bulletin import Bulletin
from .clock import Clock, SystemClock
from .errors import Cancelled, NotFound, Refused, Rejected, Unavailable, first_of
from .handle import Handle as Handle
from .handle import Standing
from .hosted import Hosted
from .intake import Intake
from .janitor import Janitor
from .message import (
    Command,
    Message,
    decode_data,
    events_stream,
    in_stream,
)
from .participant import Participant
from .quarantine import Quarantine
from .registry import Registry
from .starts import Starts
from .store import control, journal
from .store.connection import Connection, Database
from .store.retention import Pruned
from .stream import Stream
from .tenancy import Tenancy
from .watchdog import Watchdog

log = logging.getLogger("outboxd")

SWITCH_S = 0.0005
"""Beside a busy event loop each statement in a database's thread waits for the interpreter's lock

at most so long; with Python's default of 5 ms a batch of 200 takes seconds."""

POLL_S = 0.05


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
    suspects: int = 0
    broker: str = "up"
    elapsed_s: float = 0.0


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
        self.broker = Broker(self.data, redis, stream)
        self._clock = clock or SystemClock()
        self.hosted = {
            owner.name: Hosted(owner, self.registry, self.data, self._clock, chance)
            for owner in self.registry.participants.values()
        }
        self.control = Database(self.data / control.FILE)
        self.intake = Intake(self.hosted, self.registry, self.control, self._clock)
        self._starts = Starts(self.hosted, self.registry, self._clock)
        self._tenancy = Tenancy(list(self.hosted))
        self._quarantine = Quarantine()
        self._node = node or ""
        self._drain_s = drain_s
        self._started_at = self._clock.now()
        self._stop = anyio.Event()
        self._has_drained = anyio.Event()
        # As long as somebody waits for it.
        self._ended: WeakValueDictionary[str, anyio.Event] = WeakValueDictionary()
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Runtime:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        try:
            await self._group.start(self.run)
        except BaseException as err:
            await self.__aexit__(type(err), err, err.__traceback__)
            raise
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        self.stop()
        assert self._group is not None
        try:
            return await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            found = first_of(group)
            if found is error:
                return None  # it goes on as it is, without a group around it
            raise found from group

    def stop(self) -> None:
        """Begins the end: intake stops, work in hand is finished, then everything closes."""
        self._stop.set()

    def abandon(self) -> None:
        """The very end, at once: as safe as a kill, but the embedded broker is told to go."""
        if self.broker.embedded is not None:
            self.broker.embedded.terminate()
        os._exit(130)

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Everything, from the lock of the data directory to the end of the embedded broker."""
        async with anyio.create_task_group() as outside:
            outside.start_soon(self._stop_when_cancelled)
            # A stop that comes as a cancellation is as orderly as any other: what is open is closed
            # in order, and no task that another waits for dies first.
            with anyio.CancelScope(shield=True):
                await self._run(task_status)
            outside.cancel_scope.cancel()

    async def _stop_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.stop()

    async def _run(self, task_status: TaskStatus[None]) -> None:
        with datadir.claimed(self.data):
            with datadir.room(self.data):
                self._node = self._node or datadir.node_id(self.data)
            os.environ["OUTBOXD_DATA"] = str(self.data.resolve())
            sys.setswitchinterval(SWITCH_S)
            async with self.broker.opened() as stream, self._databases():
                await self._live(stream, task_status)

    async def _live(self, stream: Stream, task_status: TaskStatus[None]) -> None:
        """Services end first, then the work in hand, then what it uses."""
        async with anyio.create_task_group() as lifespans, anyio.create_task_group() as work:
            try:
                async with anyio.create_task_group() as services:
                    await self._start(stream, work, services, lifespans)
                    task_status.started()
                    await self._stop.wait()
                    services.cancel_scope.cancel()
                await self._drain(work)
                await self._tenancy.leave(stream)
            finally:
                self._has_drained.set()
                for ended in list(self._ended.values()):
                    ended.set()  # who waits for a result waits for nobody now

    # Opening.

    @asynccontextmanager
    async def _databases(self) -> AsyncIterator[None]:
        databases = [self.control, *self._stores]
        async with anyio.create_task_group() as pumps:
            try:
                for database in databases:
                    await database.open()
                    pumps.start_soon(database.run)
                for hosted in self.hosted.values():
                    await hosted.prepare()
                for hosted in self.hosted.values():
                    await hosted.subscribe_locally(self.hosted)
                await self.control.write(self._write_catalog)
                yield
            finally:
                for database in databases:
                    await database.close()
                pumps.cancel_scope.cancel()

    def _write_catalog(self, connection: Connection) -> None:
        control.prepare(connection)
        control.put_catalog(connection, catalog.entries(self.registry))

    async def _start(
        self, stream: Stream, work: TaskGroup, services: TaskGroup, lifespans: TaskGroup
    ) -> None:
        for hosted in self.hosted.values():
            hosted.wire(stream, work, self._quarantine)
            hosted.committer.after.append(self._hear)
            await lifespans.start(self._hold_lifespan, hosted)
        for hosted in self.hosted.values():
            services.start_soon(hosted.scheduler.run)
        streams = [name(owner) for owner in self.hosted for name in (in_stream, events_stream)]
        prunes = [*(h.prune for h in self.hosted.values()), self._forget_requests]
        self._janitor = Janitor(streams, prunes, self._clock)
        self._stream = stream
        services.start_soon(Watchdog(self._stores).run)
        bulletin = Bulletin(self.data, self.hosted, self.broker, self._clock, __version__)
        where = getattr(stream, "where", "memory")
        services.start_soon(bulletin.run, self._node, where)
        await services.start(self._connect, stream, services)
        services.start_soon(self._janitor.run, stream)
        services.start_soon(self.intake.run)

    async def _forget_requests(self, before: float) -> Pruned:
        return await self.control.write(lambda cx: control.forget(cx, before))

    async def _hold_lifespan(
        self, hosted: Hosted, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        """Holds a participant's lifespan open; it ends in the task in which it began."""
        lifespan = hosted.participant.lifespan
        if lifespan is None:
            task_status.started()
            return
        # Left as any other context is, not by a cancellation: what it closes may take its time.
        with anyio.CancelScope(shield=True):
            async with lifespan() as resource:
                hosted.effects.resource = resource
                task_status.started()
                await self._has_drained.wait()

    async def _connect(
        self,
        stream: Stream,
        services: TaskGroup,
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        """Starts what needs the broker once it answers; then sees to the embedded one."""
        ready = anyio.Event()

        def say_ready() -> None:
            if not ready.is_set():
                ready.set()
                task_status.started()

        async def claim() -> None:
            for hosted in self.hosted.values():
                await hosted.claim(stream)
            await self._tenancy.take(stream)

        await self.broker.connect(stream, claim, say_ready)
        services.start_soon(self._tenancy.run, stream)
        for hosted in self.hosted.values():
            await hosted.start(stream, self._node, services, self.broker.note)
        say_ready()
        while True:
            is_waiting = [h.read_events(stream, self._node, services) for h in self.hosted.values()]
            await self.broker.tend()
            await anyio.sleep(POLL_S if any(is_waiting) else TEND_S)

    # The end.

    async def _drain(self, work: TaskGroup) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as drains:
                for hosted in self.hosted.values():
                    drains.start_soon(hosted.effects.drain, self._drain_s)
            work.cancel_scope.cancel()
            for hosted in self.hosted.values():
                await hosted.effects.drain(1.0)
                await hosted.effects.stop()
                await hosted.close_cleanly()

    # What an application asks for.

    async def start(self, command: Command[Any], *, message_id: str | None = None) -> Handle:
        """Starts the saga that begins with ``command``; durable when it returns.

        A second start with the same key finds the first one, or what the saga's ``again=`` says.
        Raises NotFound if no hosted participant starts a saga on it, Refused by ``again`` or where
        ``message_id`` was used for something else.
        """
        start = self._starts.to_start(command, message_id)
        (found,) = await self._starts.begin([start])
        return Handle(self, found, start.owner)

    async def send(self, message: Message, *, message_id: str | None = None) -> str:
        """Sends a command to its owner, or publishes an event of a hosted participant.

        Durable when it returns, with the message's id. So an application tells a saga what it waits
        for with ``saga.receive``; if it does not wait yet, the message is kept for it. Nobody
        answers: see ``start``. The same ``message_id`` again is no second message.

        Raises NotFound if no hosted participant takes or publishes it, Refused where ``message_id``
        was used for something else.
        """
        return await self._starts.send(message, message_id)

    async def handle(self, saga_id: str) -> Handle:
        """The handle of a saga that was started before, also by an earlier process.

        Raises NotFound if none of that id is known here.
        """
        owner = saga_id.partition("/")[0]
        hosted = self.hosted.get(owner)
        if hosted is None or not await hosted.has_saga(saga_id):
            raise NotFound(f"there is no saga {saga_id} here")
        return Handle(self, saga_id, owner)

    async def cancel(self, saga_id: str, reason: str, *, who: str = "application") -> None:
        """Cancels a saga: ``Cancelled`` is raised where it waits, and what it did is undone.

        Returns once that is committed; ``Handle.result`` waits for the end. Raises NotFound, or
        Refused where it cannot be cancelled (any more).
        """
        if not reason.strip():
            raise Refused("a cancellation needs a reason, for whoever reads the audit trail later")
        handle = await self.handle(saga_id)
        request = control.Request(
            id=f"op-{uuid.uuid4().hex[:8]}",
            at=self._clock.now(),
            kind="saga.cancel",
            participant=handle.participant,
            target=saga_id,
            who=who,
            reason=reason.strip(),
        )
        await self.intake.perform(request)

    async def start_all(self, commands: Sequence[Command[Any]]) -> list[Handle]:
        """Starts many sagas, those of one participant in one transaction; see ``start``."""
        starts = [self._starts.to_start(command, None) for command in commands]
        found = await self._starts.begin(starts)
        return [
            Handle(self, saga_id, start.owner) for start, saga_id in zip(starts, found, strict=True)
        ]

    async def result_of(self, participant: str, saga_id: str) -> Any:
        """Waits for the end of a saga; see ``Handle.result``."""
        hosted = self.hosted[participant]
        ended = self._ended.setdefault(saga_id, anyio.Event())
        row = await hosted.database.read(lambda cx: journal.get_saga(cx, saga_id))
        if row is None or row.ended_at is None:
            await ended.wait()
            row = await hosted.database.read(lambda cx: journal.get_saga(cx, saga_id))
        if row is None:
            raise NotFound(f"there is no saga {saga_id}")
        if row.ended_at is None:
            raise Unavailable(f"this runtime has stopped, and {saga_id} goes on with the next one")
        if row.state == "cancelled":
            raise Cancelled(row.reason or "cancelled")
        if row.state == "compensated":
            raise Rejected(row.reason or "compensated")
        kind = self.registry.saga_named(participant, row.name)
        return decode_data(row.result or b"null", kind.result if kind else Any)

    async def standing_of(self, participant: str, saga_id: str) -> Standing:
        """Where a saga is; see ``Handle.standing``."""
        database = self.hosted[participant].database
        row = await database.read(lambda cx: journal.get_saga(cx, saga_id))
        if row is None:  # its start is held and tried again
            raise NotFound(f"{saga_id} has not begun yet")
        return Standing.of(row)

    async def until_idle(self) -> None:
        """Returns once nothing is under way: seen twice, with no commit in between."""
        before = -1
        while True:
            commits = sum(store.commits for store in self._stores)
            is_quiet = commits == before and all(h.is_idle for h in self.hosted.values())
            if is_quiet and not await self._is_awaited():
                break
            before = commits
            await anyio.sleep(POLL_S)
        await self._janitor.trim(self._stream)

    async def _is_awaited(self) -> bool:
        """Whether a request is to be applied, or a delayed message to set out."""
        if await self.intake.has_requests():
            return True
        return any([await hosted.has_delayed() for hosted in self.hosted.values()])

    def progress(self) -> Progress:
        """Counts over all participants."""
        tallies = [h.delivery.conductor.book.tally for h in self.hosted.values()]
        error = self.broker.error
        return Progress(
            started=sum(sum(msgspec.structs.astuple(tally)) for tally in tallies),
            completed=sum(t.completed for t in tallies),
            compensated=sum(t.compensated for t in tallies),
            cancelled=sum(t.cancelled for t in tallies),
            stuck=sum(t.stuck for t in tallies),
            dead=sum(h.delivery.letters.count for h in self.hosted.values()),
            open=sum(t.running + t.compensating for t in tallies),
            suspects=0 if self._quarantine.is_clear else self._suspects,
            broker="up" if error is None else f"down: {error}",
            elapsed_s=self._clock.now() - self._started_at,
        )

    @property
    def in_hand(self) -> int:
        """Attempts of async handlers that run right now."""
        return sum(len(h.effects.running) for h in self.hosted.values() if h.is_wired)

    @property
    def _suspects(self) -> int:
        return sum(h.delivery.holding.lanes.suspects for h in self.hosted.values())

    @property
    def _stores(self) -> list[Database]:
        return [h.database for h in self.hosted.values()]

    def _hear(self, outcome: Outcome) -> None:
        for saga_id in outcome.ended:
            ended = self._ended.get(saga_id)
            if ended is not None:
                ended.set()
