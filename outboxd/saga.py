"""What a saga's code may await: each of it a durable step, one after another or side by side.

Pure: no event loop, no database, no clock. The order of steps is deterministic by construction,
since the code may await only what ``Saga`` offers; ``instance.py`` drives it.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    NoReturn,
    ParamSpec,
    TypeVar,
    overload,
)

import msgspec

from .branches import OnError
from .clock import seconds, utc
from .errors import SagaFailed, SagaMisuse
from .message import Command, Event, Message
from .pending import Child as Child
from .pending import OneStep, Pending, Starting, Together
from .replay import Recorded as Recorded
from .replay import check as check
from .replay import replay as replay
from .steps import DEFAULT_TIMEOUT_S as DEFAULT_TIMEOUT_S
from .steps import Action, check_lane, kind_of, limit_s, mark_of, name_of
from .steps import Call as Call
from .steps import Join as Join
from .steps import Publish as Publish
from .steps import Receive as Receive
from .steps import Run as Run
from .steps import Send as Send
from .steps import Sleep as Sleep
from .steps import Start as Start
from .steps import Step as Step
from .steps import Until as Until
from .steps import shown as shown
from .traces import where as where

if TYPE_CHECKING:
    from .tx import Tx

R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
M = TypeVar("M", bound=Message)
P = ParamSpec("P")


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


class Evicted(BaseException):
    """Leaves a coroutine that is dropped; user code cannot take it for a failure of a step."""


class Saga:
    """What a saga's code may await, and little else.

    ``id``: (participant, saga, key of its start message) as one text; ``key``: that key;
    ``version``: the version this instance started with.
    """

    def __init__(
        self, saga_id: str, key: str, version: int = 1, receives: tuple[type[Message], ...] = ()
    ) -> None:
        self.id = saga_id
        self.key = key
        self.version = version
        self.receives = receives
        self.created: dict[int, Pending[Any]] = {}
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
    ) -> Pending[R]:
        """Sends ``command`` and waits for its reply.

        ``undo`` runs if the step may have run and the saga unwinds; it has the same owner and key.
        ``timeout`` ("2m" or seconds) is the deadline; ``strict`` counts outages into it. A dead
        letter holds the saga, or with ``on_dead="fail"`` raises CallFailed.

        Raises Rejected, TimedOut, CallFailed or Cancelled.
        """
        check_lane(command, undo)
        return OneStep(self, Call(command, undo, limit_s(command, timeout), on_dead, strict))

    def start(
        self,
        command: Command[R],
        *,
        undo: Command[Any] | None = None,
        on_cancel: Literal["cancel", "abandon"] = "cancel",
    ) -> Pending[Child[R]]:
        """Starts the saga that begins with ``command``, and does not wait for it.

        ``await child.result()`` does. If this saga unwinds, a child that is under way is cancelled,
        and one that has completed is undone with ``undo``, which has the same owner and key;
        nothing is done to either with ``on_cancel="abandon"``. If this saga completes, its children
        go on by themselves.
        """
        if undo is not None and on_cancel == "abandon":
            raise SagaMisuse("an abandoned child is not undone: leave out undo= or on_cancel=")
        check_lane(command, undo)
        return Starting(self, Start(command, undo, on_cancel))

    def run(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Pending[T]:
        """Runs ``fn(tx, …)`` in a transaction of the saga's own participant."""
        return OneStep(self, Run(fn, args, kwargs))

    def send(self, command: Command[Any], *, delay: str | float | None = None) -> Pending[None]:
        """Sends ``command`` without waiting for an answer, at once or after ``delay``.

        It is not called back if the saga unwinds meanwhile: what must be is a ``call`` with an
        ``undo``, after a ``sleep``.
        """
        return OneStep(self, Send(command, None if delay is None else seconds(delay)))

    def publish(self, event: Event) -> Pending[None]:
        """Publishes ``event`` for whoever subscribes."""
        return OneStep(self, Publish(event))

    def sleep(self, span: str | float) -> Pending[None]:
        """Waits for ``span`` ("30s" or seconds), also over restarts."""
        return OneStep(self, Sleep(seconds(span)))

    def until(self, moment: datetime) -> Pending[None]:
        """Waits for a moment of the wall clock (aware), also if the clock is set meanwhile."""
        if moment.tzinfo is None:
            raise SagaMisuse(f"saga.until needs a time zone: {moment} has none")
        return OneStep(self, Until(moment.timestamp()))

    def receive(
        self,
        message: type[M],
        *,
        timeout: str | float,
        key: str | None = None,
        strict: bool = False,
    ) -> Pending[M]:
        """Waits for an event or a command of this type with the saga's key, or with ``key``.

        The saga is declared with ``receives=``. What came before it waited is kept and found, in
        the order in which it came. ``timeout`` and ``strict`` as in ``call``.

        Raises TimedOut or Cancelled.
        """
        if message not in self.receives:
            raise SagaMisuse(
                f"this saga does not say that it receives {message.__name__}: "
                f"write @participant.saga(receives=({message.__name__},))"
            )
        action = Receive(message, self.key if key is None else key, seconds(timeout), strict)
        return OneStep(self, action)

    @overload
    def all(self, a: Awaitable[A], /, *, on_error: OnError = ...) -> Pending[tuple[A]]: ...
    @overload
    def all(
        self, a: Awaitable[A], b: Awaitable[B], /, *, on_error: OnError = ...
    ) -> Pending[tuple[A, B]]: ...
    @overload
    def all(
        self, a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], /, *, on_error: OnError = ...
    ) -> Pending[tuple[A, B, C]]: ...
    @overload
    def all(
        self,
        a: Awaitable[A],
        b: Awaitable[B],
        c: Awaitable[C],
        d: Awaitable[D],
        /,
        *,
        on_error: OnError = ...,
    ) -> Pending[tuple[A, B, C, D]]: ...
    @overload
    def all(
        self,
        a: Awaitable[A],
        b: Awaitable[B],
        c: Awaitable[C],
        d: Awaitable[D],
        e: Awaitable[E],
        /,
        *,
        on_error: OnError = ...,
    ) -> Pending[tuple[A, B, C, D, E]]: ...
    @overload
    def all(self, *what: Awaitable[T], on_error: OnError = ...) -> Pending[tuple[T, ...]]: ...
    def all(self, *what: Awaitable[Any], on_error: OnError = "cancel") -> Pending[Any]:
        """Waits for ``what`` stands side by side; returns the results in program order.

        Calls, children's results, sleeps, receives, and ``all`` and ``race`` of such. The first
        that fails is raised: at once, and the others are dropped (their calls are closed, as if
        they had timed out), or with ``on_error="wait"`` once all have ended.
        """
        return Together(self, "all", what, on_error)

    @overload
    def race(
        self, a: Awaitable[A], /, *, on_error: OnError = ...
    ) -> Pending[tuple[Literal[0], A]]: ...
    @overload
    def race(
        self, a: Awaitable[A], b: Awaitable[B], /, *, on_error: OnError = ...
    ) -> Pending[tuple[Literal[0], A] | tuple[Literal[1], B]]: ...
    @overload
    def race(
        self, a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], /, *, on_error: OnError = ...
    ) -> Pending[tuple[Literal[0], A] | tuple[Literal[1], B] | tuple[Literal[2], C]]: ...
    @overload
    def race(
        self,
        a: Awaitable[A],
        b: Awaitable[B],
        c: Awaitable[C],
        d: Awaitable[D],
        /,
        *,
        on_error: OnError = ...,
    ) -> Pending[
        tuple[Literal[0], A] | tuple[Literal[1], B] | tuple[Literal[2], C] | tuple[Literal[3], D]
    ]: ...
    @overload
    def race(
        self,
        a: Awaitable[A],
        b: Awaitable[B],
        c: Awaitable[C],
        d: Awaitable[D],
        e: Awaitable[E],
        /,
        *,
        on_error: OnError = ...,
    ) -> Pending[
        tuple[Literal[0], A]
        | tuple[Literal[1], B]
        | tuple[Literal[2], C]
        | tuple[Literal[3], D]
        | tuple[Literal[4], E]
    ]: ...
    @overload
    def race(self, *what: Awaitable[T], on_error: OnError = ...) -> Pending[tuple[int, T]]: ...
    def race(self, *what: Awaitable[Any], on_error: OnError = "cancel") -> Pending[Any]:
        """Waits for the first of ``what`` stands side by side; returns (its index, its result).

        The others are dropped: their calls are closed, and undone if they ran. A failure wins like
        a result and is raised, or with ``on_error="wait"`` only if nothing succeeds.
        """
        return Together(self, "race", what, on_error)

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
            raise Evicted
        self._pos += 1
        return Step(self._pos, kind_of(action), name_of(action), mark_of(action), action)
