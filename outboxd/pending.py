"""What a saga's code creates and then awaits: one step, or several side by side."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from .branches import Branch, Fork, Leaf, OnError
from .errors import SagaMisuse
from .steps import Action, Call, Join, Receive, Sleep, Start, Until, kind_of, limit_s, name_of

if TYPE_CHECKING:
    from .message import Command
    from .saga import Saga

R = TypeVar("R")
T = TypeVar("T")

WAITS = (Call, Join, Sleep, Until, Receive)
"""What may stand beside others; everything else is done at once."""


class Pending(Generic[T]):
    """What the code has created; awaiting it hands it to the driver."""

    __slots__ = ("_saga", "is_taken")

    def __init__(self, saga: Saga) -> None:
        self._saga = saga
        self.is_taken = False
        saga.created[id(self)] = self

    def __await__(self) -> Generator[Branch, Any, T]:
        self.take()
        branch = self.branch()
        value = yield branch
        return self._result(branch, value)

    def take(self) -> None:
        """Somebody awaits it, alone or with others."""
        if self.is_taken:
            raise SagaMisuse("one step was awaited twice; create it again for a second time")
        self.is_taken = True
        self._saga.created.pop(id(self), None)

    def branch(self) -> Branch:
        """What is waited for; its steps get their positions now."""
        raise NotImplementedError

    def _result(self, branch: Branch, value: Any) -> T:
        """What the code gets for what the step was answered with."""
        result: T = value
        return result


class OneStep(Pending[T]):
    """One step."""

    __slots__ = ("action",)

    def __init__(self, saga: Saga, action: Action) -> None:
        super().__init__(saga)
        self.action = action

    def branch(self) -> Branch:
        return Leaf(self._saga.next_step(self.action))

    def __repr__(self) -> str:
        return f"saga.{kind_of(self.action)}({name_of(self.action)})"


class Together(Pending[T]):
    """Several steps side by side; ``what`` they are is checked when it is created."""

    __slots__ = ("_kind", "_on_error", "_parts")

    def __init__(
        self, saga: Saga, kind: Literal["all", "race"], what: Sequence[object], on_error: OnError
    ) -> None:
        super().__init__(saga)
        self._kind: Literal["all", "race"] = kind
        self._on_error: OnError = on_error
        self._parts = [self._part(part) for part in what]
        if not what and kind == "race":
            raise SagaMisuse("saga.race needs something to wait for")
        for part in self._parts:
            part.take()

    def __await__(self) -> Generator[Branch, Any, T]:
        if self._parts:
            return (yield from super().__await__())
        self.take()
        return self._result(Branch(), ())

    def branch(self) -> Branch:
        return Fork([part.branch() for part in self._parts], self._kind, self._on_error)

    def _part(self, part: object) -> Pending[Any]:
        if isinstance(part, Together) or (isinstance(part, OneStep) and _can_wait(part)):
            return part
        if isinstance(part, OneStep):
            raise SagaMisuse(f"{part!r} is done at once: await it before saga.{self._kind}")
        if hasattr(part, "close"):
            part.close()  # a coroutine: Python would warn of it a second time
        raise SagaMisuse(
            f"saga.{self._kind} takes what the saga offers to wait for, not {part!r}: "
            "call, child.result, sleep, until, receive, all, race"
        )

    def __repr__(self) -> str:
        return f"saga.{self._kind}({', '.join(map(repr, self._parts))})"


class Child(Generic[R]):
    """A saga that another one has started, and may wait for."""

    def __init__(self, saga: Saga, command: Command[R], pos: int) -> None:
        self._saga = saga
        self._command = command
        self._pos = pos

    def result(self, *, timeout: str | float | None = None, strict: bool = False) -> Pending[R]:
        """Waits for its end and returns what it returned.

        ``timeout`` and ``strict`` as in ``Saga.call``; a child that is late goes on, and may be
        asked again. Raises Rejected with its reason if it ended otherwise, TimedOut, Cancelled, or
        CallFailed if it never started.
        """
        limit = limit_s(self._command, timeout)
        return OneStep(self._saga, Join(self._command, self._pos, limit, strict))


class Starting(OneStep[Child[R]]):
    """A start that the code has created; awaiting it gives a hold on the child."""

    __slots__ = ()

    def _result(self, branch: Branch, value: Any) -> Child[R]:
        assert isinstance(branch, Leaf)
        step = branch.step
        assert isinstance(step.action, Start)
        return Child(self._saga, step.action.command, step.pos)


def _can_wait(part: OneStep[Any]) -> bool:
    return isinstance(part.action, WAITS)
