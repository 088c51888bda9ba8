"""A saga and its driver: a coroutine resumed over a journal, one durable step after another.

Pure: no event loop, no database, no clock. ``Instance`` moves the coroutine with ``send`` and
``throw`` and returns the next step that its code asks for; what a step does is the conductor's
affair. The order of steps is deterministic by construction, since the code may await only what
``Saga`` offers.
"""

from __future__ import annotations

import os
import traceback
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Generator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, NoReturn, ParamSpec, TypeVar

import msgspec

from .clock import seconds, utc
from .errors import CodeChanged, SagaEnd, SagaFailed, SagaMisuse
from .message import Command, Event
from .steps import DEFAULT_TIMEOUT_S as DEFAULT_TIMEOUT_S
from .steps import Action, check_lane, content_of, kind_of, limit_s, mark_of, name_of
from .steps import Call as Call
from .steps import Join as Join
from .steps import Publish as Publish
from .steps import Run as Run
from .steps import Send as Send
from .steps import Sleep as Sleep
from .steps import Start as Start
from .steps import Step as Step
from .steps import shown as shown

if TYPE_CHECKING:
    from .tx import Tx

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")

_HERE = f"{Path(__file__).parent}{os.sep}"


class Returned(msgspec.Struct, frozen=True):
    """The coroutine came to its end."""

    value: Any


class Unwound(msgspec.Struct, frozen=True):
    """The coroutine ended with an exception that unwinds the saga."""

    error: SagaEnd


Moved = Step | Returned | Unwound


class Undo(msgspec.Struct, frozen=True):
    """One entry of the undo stack: a call to undo (or, without a command, to close) or a function.

    ``pos`` is its call's position; a local undo has a position of its own. ``was_done``: the call
    was answered, so that its participant must undo it even if it no longer remembers it.
    """

    pos: int
    step: Call | None
    fn: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    was_done: bool = False


class _Evicted(BaseException):
    """Leaves a coroutine that is dropped; user code cannot take it for a failure of a step."""


class _Pending(Generic[T]):
    """A step that the code has created; awaiting it hands the step to the driver."""

    __slots__ = ("_action", "_saga", "awaited")

    def __init__(self, saga: Saga, action: Action) -> None:
        self._saga = saga
        self._action = action
        self.awaited = False
        saga.created[id(self)] = self

    def __await__(self) -> Generator[Step, Any, T]:
        if self.awaited:
            raise SagaMisuse("one step was awaited twice; create it again for a second time")
        self.awaited = True
        self._saga.created.pop(id(self), None)
        step = self._saga.next_step(self._action)
        value = yield step
        return self._result(step, value)

    def _result(self, step: Step, value: Any) -> T:
        """What the code gets for what the step was answered with."""
        result: T = value
        return result

    def __repr__(self) -> str:
        return f"saga.{kind_of(self._action)}({name_of(self._action)})"


class Child(Generic[R]):
    """A saga that another one has started, and may wait for."""

    def __init__(self, saga: Saga, command: Command[R], pos: int) -> None:
        self._saga = saga
        self._command = command
        self._pos = pos

    def result(self, *, timeout: str | float | None = None, strict: bool = False) -> Awaitable[R]:
        """Waits for its end and returns what it returned.

        ``timeout`` and ``strict`` as in ``Saga.call``; a child that is late goes on, and may be
        asked again. Raises Rejected with its reason if it ended otherwise, TimedOut, Cancelled, or
        CallFailed if it never started.
        """
        limit = limit_s(self._command, timeout)
        return _Pending(self._saga, Join(self._command, self._pos, limit, strict))


class _Starting(_Pending[Child[R]]):
    """A start that the code has created; awaiting it gives a hold on the child."""

    __slots__ = ()

    def _result(self, step: Step, value: Any) -> Child[R]:
        assert isinstance(step.action, Start)
        return Child(self._saga, step.action.command, step.pos)


class Saga:
    """What a saga's code may await, and little else.

    ``id``: (participant, saga, key of its start message) as one text; ``key``: that key;
    ``version``: the version this instance started with.
    """

    def __init__(self, saga_id: str, key: str, version: int = 1) -> None:
        self.id = saga_id
        self.key = key
        self.version = version
        self.created: dict[int, _Pending[Any]] = {}
        self.undos: list[Undo] = []
        self.is_forward_only = False
        self._pos = 0
        self._at = 0.0
        self._uuids = 0
        self._dropped = False

    def call(
        self,
        command: Command[R],
        *,
        undo: Command[Any] | None = None,
        timeout: str | float | None = None,
        on_dead: Literal["hold", "fail"] = "hold",
        strict: bool = False,
    ) -> Awaitable[R]:
        """Sends ``command`` and waits for its reply.

        ``undo`` runs if the step may have run and the saga unwinds; it has the same owner and key.
        ``timeout`` ("2m" or seconds) is the deadline; ``strict`` counts outages into it. A dead
        letter holds the saga, or with ``on_dead="fail"`` raises CallFailed.

        Raises Rejected, TimedOut, CallFailed or Cancelled.
        """
        check_lane(command, undo)
        return _Pending(self, Call(command, undo, limit_s(command, timeout), on_dead, strict))

    def start(
        self,
        command: Command[R],
        *,
        undo: Command[Any] | None = None,
        on_cancel: Literal["cancel", "abandon"] = "cancel",
    ) -> Awaitable[Child[R]]:
        """Starts the saga that begins with ``command``, and does not wait for it.

        ``await child.result()`` does. If this saga unwinds, a child that is under way is cancelled,
        and one that has completed is undone with ``undo``, which has the same owner and key;
        nothing is done to either with ``on_cancel="abandon"``. If this saga completes, its children
        go on by themselves.
        """
        if undo is not None and on_cancel == "abandon":
            raise SagaMisuse("an abandoned child is not undone: leave out undo= or on_cancel=")
        check_lane(command, undo)
        return _Starting(self, Start(command, undo, on_cancel))

    def run(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Runs ``fn(tx, …)`` in a transaction of the saga's own participant."""
        return _Pending(self, Run(fn, args, kwargs))

    def send(self, command: Command[Any], *, delay: str | float | None = None) -> Awaitable[None]:
        """Sends ``command`` without waiting for an answer."""
        return _Pending(self, Send(command, None if delay is None else seconds(delay)))

    def publish(self, event: Event) -> Awaitable[None]:
        """Publishes ``event`` for whoever subscribes."""
        return _Pending(self, Publish(event))

    def sleep(self, span: str | float) -> Awaitable[None]:
        """Waits for ``span`` ("30s" or seconds), also over restarts."""
        return _Pending(self, Sleep(seconds(span)))

    def undo(
        self, fn: Callable[Concatenate[Tx, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Registers ``fn(tx, …)`` to run in the saga's own participant if the saga unwinds."""
        if kwargs:
            raise SagaMisuse("saga.undo takes positional arguments only")
        self._pos += 1
        self.undos.append(Undo(self._pos, None, fn, args))

    def point_of_no_return(self) -> None:
        """From here the saga goes only forward: calls are repeated, nothing is undone."""
        self.is_forward_only = True

    def fail(self, reason: str) -> NoReturn:
        """Ends the saga and undoes what it did."""
        raise SagaFailed(reason)

    def now(self) -> datetime:
        """The time (aware UTC) of the message that moved the saga last; the same on a replay."""
        return utc(self._at)

    def uuid(self) -> uuid.UUID:
        """A new id, the same on a replay."""
        self._uuids += 1
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self.id}/{self._uuids}")

    def next_step(self, action: Action) -> Step:
        """The step that ``action`` becomes (called by the awaiting code)."""
        if self._dropped:
            raise _Evicted
        self._pos += 1
        return Step(self._pos, kind_of(action), name_of(action), mark_of(action), action)


class Instance:
    """One running coroutine of a saga.

    Moved inside a transaction, it must be dropped unless COMMIT returned; it is rebuilt from the
    journal with ``replay``.
    """

    def __init__(
        self, saga: Saga, fn: Callable[[Saga, Any], Coroutine[Any, Any, Any]], message: object
    ) -> None:
        self.saga = saga
        self.waiting: Step | None = None
        self._coroutine = fn(saga, message)

    @property
    def undos(self) -> list[Undo]:
        """The undo stack, oldest first."""
        return self.saga.undos

    def start(self, at: float) -> Moved:
        """Runs the code to its first step; ``at`` is the time (UTC seconds) it sees."""
        return self._move(at, lambda: self._coroutine.send(None))

    def resume(self, at: float, value: Any, *, was_done: bool = True) -> Moved:
        """Answers the step it waits for with ``value``; ``was_done``: its participant said so."""
        self._keep_undo(is_done=was_done)
        return self._move(at, lambda: self._coroutine.send(value))

    def throw(self, at: float, error: SagaEnd, *, may_have_run: bool) -> Moved:
        """Ends the step it waits for with ``error``; keeps its undo if it may have run."""
        if may_have_run:
            self._keep_undo(is_done=False)
        return self._move(at, lambda: self._coroutine.throw(error))

    def drop(self) -> None:
        """Closes the coroutine; every step it would still ask for is refused."""
        self.saga._dropped = True
        try:
            self._coroutine.close()
        except (Exception, _Evicted):
            return  # its finally blocks are no part of the saga: undo is registered

    def _keep_undo(self, *, is_done: bool) -> None:
        step = self.waiting
        if step is not None and isinstance(step.action, Start):
            self._keep_start(step.pos, step.action)
        if step is None or not isinstance(step.action, Call):
            return
        if step.action.undo is not None or not is_done:
            self.undos.append(Undo(step.pos, step.action, was_done=is_done))

    def _keep_start(self, pos: int, start: Start) -> None:
        """A child is taken back like a call whose outcome is unknown, unless it is abandoned."""
        if start.on_cancel == "cancel":
            self.undos.append(Undo(pos, Call(start.command, start.undo, 0.0, "hold", False)))

    def _move(self, at: float, go: Callable[[], Any]) -> Moved:
        self.saga._at = at
        self.waiting = None
        try:
            asked = go()
        except StopIteration as end:
            self._refuse_forgotten()
            return Returned(end.value)
        except SagaEnd as error:
            return Unwound(error)
        except Exception as err:
            if _is_lost_in_async(err):
                raise SagaMisuse(_instead(err)) from err
            raise
        if not isinstance(asked, Step):
            raise SagaMisuse(f"the saga awaited {asked!r}; {_ONLY}")
        self.waiting = asked
        return asked

    def _refuse_forgotten(self) -> None:
        for forgotten in self.saga.created.values():
            raise SagaMisuse(
                f"{forgotten!r} was created but never awaited: write `await` before it"
            )


class Recorded(msgspec.Struct, frozen=True):
    """A finished step of the journal: what was asked, and how it ended."""

    pos: int
    kind: str
    name: str
    mark: int
    at: float
    value: Any = None
    error: SagaEnd | None = None
    may_have_run: bool = False


def replay(
    instance: Instance,
    started_at: float,
    journal: list[Recorded],
    decode: Callable[[Step, Any], Any],
) -> Moved:
    """Rebuilds ``instance`` from its journal; returns what its code asks for now.

    ``decode(step, value)`` turns a recorded value into the object that the code got.
    Raises CodeChanged if the code asks for something else than the journal has.
    """
    moved = instance.start(started_at)
    for record in journal:
        if not isinstance(moved, Step):
            raise CodeChanged(record.pos, f"{record.kind} {record.name}", "the end")
        check(moved, record.pos, record.kind, record.name, record.mark)
        if record.error is not None:
            moved = instance.throw(record.at, record.error, may_have_run=record.may_have_run)
        else:
            value = decode(moved, record.value)
            moved = instance.resume(record.at, value, was_done=not record.may_have_run)
    return moved


def check(step: Step, pos: int, kind: str, name: str, mark: int) -> None:
    """Raises CodeChanged unless ``step`` is what the journal recorded."""
    if (step.pos, step.kind, step.name) != (pos, kind, name):
        raise CodeChanged(pos, f"{kind} {name}", f"{step.kind} {step.name} (step {step.pos})")
    if step.mark != mark:
        asked = f"{step.kind} {step.name} {content_of(step.action)}".rstrip()
        raise CodeChanged(pos, f"{kind} {name} with other content", asked)


def where(error: BaseException) -> str:
    """The traceback as text, from the user's code on: how it was called is never what is wrong."""
    told = traceback.TracebackException.from_exception(error)
    _without_ours(told)
    return "".join(told.format())


def _without_ours(told: traceback.TracebackException) -> None:
    first = next((n for n, frame in enumerate(told.stack) if not _is_ours(frame.filename)), 0)
    del told.stack[:first]
    for cause in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if cause is not None:
            _without_ours(cause)


def _is_ours(filename: str) -> bool:
    return filename.startswith(_HERE)


_ONLY = "it may await only what its Saga offers: call, start, run, send, publish, sleep"


_ASYNC = ("asyncio", "anyio", "sniffio", "trio")


def _is_lost_in_async(err: BaseException) -> bool:
    """Whether a library for event loops failed for want of one."""
    if "event loop" in str(err) and isinstance(err, RuntimeError):
        return True
    modules = [module for module, _, _ in _frames(err)]
    return bool(modules) and modules[-1] in _ASYNC


def _instead(err: BaseException) -> str:
    ours = [at for at in _frames(err) if at[0] not in (*_ASYNC, __package__)]
    place = f"{ours[-1][1]}:{ours[-1][2]}: " if ours else ""
    return (
        f"{place}a saga runs without an event loop; {_ONLY}; "
        "work with the world is an async handler"
    )


def _frames(err: BaseException) -> list[tuple[str, str, int]]:
    """(top-level module, file, line) of each frame, the innermost last."""
    return [
        (str(frame.f_globals.get("__name__", "")).split(".")[0], frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(err.__traceback__)
    ]
