"""For tests of participants: a simulation, or a runtime for a while with a broker that misbehaves.

``simulated`` hosts participants on the simulator of ``outboxd prove``: virtual time, no waiting.
``running`` hosts participants over an in-memory broker in a directory of its own. ``FaultyStream``
stands before any broker and loses, repeats, reorders, refuses and forgets. Nothing here is used in
production, and no test needs to sleep: it waits for a condition, or moves the clock.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, overload

import anyio

from .batch import Outcome
from .clock import SystemClock
from .errors import NotFound, Refused
from .faulty_stream import CALM as CALM
from .faulty_stream import Faults as Faults
from .faulty_stream import FaultyStream as FaultyStream
from .faulty_stream import Moment as Moment
from .memory_stream import MemoryStream
from .message import Command, encode, in_stream, key_of
from .participant import Participant
from .prove.following import followed as followed
from .prove.harness import Simulation as Simulation
from .prove.seen import DeadLetter as DeadLetter
from .prove.seen import SagaStep as SagaStep
from .prove.seen import Seen as Seen
from .prove.staging import simulated as simulated
from .runtime import Handle, Runtime
from .store import control, journal
from .store.control import Request
from .store.journal import SagaRow
from .stream import Marker

T = TypeVar("T")

WAIT_S = 20.0
"""A condition that takes longer than this is taken for one that never comes."""

POLL_S = 0.005


@overload
async def wait_until(
    predicate: Callable[[], Awaitable[T | None]], description: str = "", *, within_s: float = ...
) -> T: ...
@overload
async def wait_until(
    predicate: Callable[[], T | None], description: str = "", *, within_s: float = ...
) -> T: ...
async def wait_until(
    predicate: Callable[[], Any], description: str = "", *, within_s: float = WAIT_S
) -> Any:
    """Waits until ``predicate()``, which may be async, is true; returns what it returned.

    Raises AssertionError with ``description`` after ``within_s`` seconds of real time.
    """
    with anyio.move_on_after(within_s):
        while True:
            found = predicate()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await anyio.sleep(POLL_S)
    said = description or _source(predicate)
    raise AssertionError(f"not within {within_s:g} s: {said}")


class FakeClock:
    """Clocks that a test moves. At ``rate`` 1 they also run by themselves, at 0 they stand still.

    ``at``: where the wall clock begins, in seconds since the epoch.
    """

    def __init__(self, at: float = 1_800_000_000.0, *, rate: float = 1.0) -> None:
        self._at = at
        self._rate = rate
        self._real = SystemClock()
        self._began = self._real.monotonic()
        self._passed = 0.0
        self._jumped = 0.0

    def now(self) -> float:
        return self._at + self._jumped + self.monotonic()

    def monotonic(self) -> float:
        return self._passed + (self._real.monotonic() - self._began) * self._rate

    def advance(self, seconds: float) -> None:
        """Lets time pass: both clocks move."""
        self._passed += seconds

    def jump(self, seconds: float) -> None:
        """Sets the wall clock forwards or, below zero, back; no time passes."""
        self._jumped += seconds


class Watched:
    """A started saga, of which a test expects that it ends soon."""

    def __init__(self, handle: Handle) -> None:
        self.id = handle.id
        self._handle = handle

    async def result(self) -> Any:
        """``Handle.result``; TimeoutError if it takes too long."""
        with anyio.fail_after(WAIT_S):
            return await self._handle.result()


class Harness:
    """A running Runtime and what a test does to it and asks of it.

    ``stream``: the broker; ``clock``: its time; ``data``: its directory, good for a second run.
    """

    def __init__(
        self, runtime: Runtime, stream: FaultyStream, clock: FakeClock, data: Path
    ) -> None:
        self.runtime = runtime
        self.stream = stream
        self.clock = clock
        self.data = data

    async def start(self, command: Command[Any], message_id: str | None = None) -> Watched:
        """Starts the saga that begins with ``command``."""
        return Watched(await self.runtime.start(command, message_id=message_id))

    async def send(self, command: Command[Any], message_id: str | None = None) -> str:
        """Sends ``command`` to its owner from outside; returns the message's id.

        Raises Refused where its owner would not take it.
        """
        return (await self._ask([self._sending(command, message_id)]))[0].result

    async def send_all(self, *commands: Command[Any]) -> None:
        """Sends ``commands`` in this order; raises Refused if one of them is not taken."""
        await self._ask([self._sending(command, None) for command in commands])

    async def request(
        self, kind: str, participant: str, target: str = "", args: Any = None, reason: str = "test"
    ) -> str:
        """Makes an operator's request; returns its result once it is applied.

        Raises Refused with the reason where it does not apply.
        """
        asked = [self._request(kind, participant, target, args, reason)]
        return (await self._ask(asked))[0].result

    async def replay(self, participant: str, *letters: int) -> str:
        """Replays dead letters of a participant."""
        return await self.request("dead.replay", participant, args={"letters": letters})

    async def discard(self, participant: str, *letters: int, reason: str = "test") -> str:
        """Discards dead letters of a participant."""
        return await self.request(
            "dead.discard", participant, args={"letters": letters}, reason=reason
        )

    async def cancel(self, saga_id: str, reason: str = "test") -> str:
        """Cancels a saga."""
        return await self.request("saga.cancel", _owner(saga_id), saga_id, reason=reason)

    async def retry(self, saga_id: str) -> str:
        """Retries a stuck saga."""
        return await self.request("saga.retry", _owner(saga_id), saga_id)

    async def put(self, participant: str, body: bytes, stream: str | None = None) -> None:
        """Puts bytes straight into a participant's stream, as a stranger would."""
        marker = Marker("stranger", 1, 1)
        await self.stream.broker.publish(
            "stranger", [(stream or in_stream(participant), body)], marker, []
        )

    async def rows(self, participant: str, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement on a participant's database, as it is committed."""
        database = self.runtime.hosted[participant].database
        return await database.read(lambda cx: cx.execute(sql, args).fetchall())

    async def column(self, participant: str, sql: str, *args: Any) -> list[Any]:
        """The first column of ``rows``."""
        return [row[0] for row in await self.rows(participant, sql, *args)]

    async def saga(self, saga_id: str) -> SagaRow:
        """A saga's row. Raises NotFound."""
        row = await self._row(saga_id)
        if row is None:
            raise NotFound(f"there is no saga {saga_id}")
        return row

    async def until_saga(self, saga_id: str, state: str) -> SagaRow:
        """Waits until a saga is in ``state``, as "completed" or, with its kind, "stuck: letter"."""

        async def found() -> SagaRow | None:
            row = await self._row(saga_id)
            if row is None:
                return None
            said = f"stuck: {row.stuck}" if row.state == "stuck" else row.state
            return row if state in (row.state, said) else None

        return await wait_until(found, f"{saga_id} is {state}")

    async def hurry(
        self, predicate: Callable[[], Awaitable[T | None]], step_s: float, description: str = ""
    ) -> T:
        """``wait_until``, while ``step_s`` seconds pass between two looks."""

        async def look() -> T | None:
            self.advance(step_s)
            return await predicate()

        return await wait_until(look, description or _source(predicate))

    async def until_idle(self) -> None:
        """Waits until nothing is under way."""
        with anyio.fail_after(WAIT_S):
            await self.runtime.until_idle()

    def advance(self, seconds: float) -> None:
        """Lets time pass; what has fallen due is looked for at once."""
        self.clock.advance(seconds)
        for hosted in self.runtime.hosted.values():
            hosted.scheduler.hear(Outcome(wake_at=0.0))

    async def _row(self, saga_id: str) -> SagaRow | None:
        database = self.runtime.hosted[_owner(saga_id)].database
        return await database.read(lambda cx: journal.get_saga(cx, saga_id))

    def _sending(self, command: Command[Any], message_id: str | None) -> Request:
        message_id = message_id or f"sent-{uuid.uuid4().hex}"
        args = {"id": message_id, "key": key_of(command), "data": command}
        owner = command.__outboxd__.to or ""
        return self._request("send", owner, type(command).__name__, args, "")

    def _request(self, kind: str, participant: str, target: str, args: Any, reason: str) -> Request:
        return Request(
            id=f"op-{uuid.uuid4().hex}",
            at=self.clock.now(),
            kind=kind,
            participant=participant,
            target=target,
            args=encode({} if args is None else args),
            who="test",
            reason=reason,
        )

    async def _ask(self, asked: list[Request]) -> list[Request]:
        """Writes requests for the runtime, as another process would; returns them applied."""
        database = self.runtime.control
        await database.write(lambda cx: [control.add_request(cx, request) for request in asked])

        async def applied() -> list[Request] | None:
            found = await database.read(lambda cx: [control.get(cx, a.id) for a in asked])
            done = [request for request in found if request and request.state != "pending"]
            return done if len(done) == len(asked) else None

        done = await wait_until(applied, f"{asked[0].kind} {asked[0].target} is applied")
        for request in done:
            if request.state == "refused":
                raise Refused(request.result)
        return done


@asynccontextmanager
async def running(
    *participants: Participant,
    data: Path | None = None,
    stream: FaultyStream | None = None,
    clock: FakeClock | None = None,
    chance: Callable[[], float] = lambda: 0.0,
    drain_s: float = 10.0,
) -> AsyncIterator[Harness]:
    """Hosts ``participants`` until the block ends.

    ``data``: their directory, by default one that is removed again; ``stream`` and ``clock``: those
    of an earlier run, to go on with them; ``chance``: what draws the waits between tries, by
    default none.
    """
    clock = clock or FakeClock()
    stream = stream or FaultyStream(MemoryStream(clock))
    with TemporaryDirectory() as made:
        folder = data or Path(made)
        runtime = Runtime(
            participants,
            data=folder,
            clock=clock,
            chance=chance,
            stream=stream,
            node="test",
            drain_s=drain_s,
        )
        async with runtime:
            await wait_until(lambda: _has_caught_up(runtime), "all streams are read to their ends")
            yield Harness(runtime, stream, clock, folder)


def _has_caught_up(runtime: Runtime) -> bool:
    """Whether time counts: until then it is taken for time in which nobody could answer."""
    is_up = runtime.progress().broker == "up"
    awaited = [hosted for hosted in runtime.hosted.values() if hosted.delivery.paused is None]
    return not is_up or all(hosted.may_time_out() for hosted in awaited)


def _source(predicate: Callable[[], Any]) -> str:
    """The code of a predicate, for whoever reads that it never held."""
    try:
        return inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        return repr(predicate)


def _owner(saga_id: str) -> str:
    return saga_id.partition("/")[0]
