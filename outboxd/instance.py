"""The driver of one saga: its coroutine, resumed over a journal, one step after another.

Pure: ``Instance`` moves the coroutine with ``send`` and ``throw`` and returns what its code asks
for next; what a step does is the conductor's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from .branches import Branch, End, Fork, Leaf
from .errors import Cancelled, SagaEnd, SagaMisuse
from .saga import Evicted, Saga, Undo
from .steps import Call, Join, Start, Step
from .traces import ONLY, instead, is_lost_in_async


class Steps(msgspec.Struct, frozen=True):
    """Steps to begin side by side; none: the code waits on for those that are begun."""

    steps: tuple[Step, ...] = ()


class Returned(msgspec.Struct, frozen=True):
    """The coroutine came to its end."""

    value: Any


class Unwound(msgspec.Struct, frozen=True):
    """The coroutine ended with an exception that unwinds the saga."""

    error: SagaEnd


Moved = Step | Steps | Returned | Unwound


class Instance:
    """One running coroutine of a saga.

    ``open``: the steps it waits for, by position; ``dropped``: those that its last move gave up.
    Moved inside a transaction, it must be dropped unless COMMIT returned; it is rebuilt from the
    journal with ``replay``.
    """

    def __init__(
        self, saga: Saga, fn: Callable[[Saga, Any], Coroutine[Any, Any, Any]], message: object
    ) -> None:
        self.saga = saga
        self.open: dict[int, Step] = {}
        self.dropped: tuple[Step, ...] = ()
        self._root: Branch | None = None
        self._leaves: dict[int, Leaf] = {}
        self.coroutine = fn(saga, message)

    @property
    def undos(self) -> list[Undo]:
        """The undo stack, in order of completion."""
        return self.saga.undos

    @property
    def waiting(self) -> Step | None:
        """The step it waits for, if that is one alone."""
        return self._root.step if isinstance(self._root, Leaf) else None

    def start(self, at: float) -> Moved:
        """Runs the code to its first step; ``at`` is the time (UTC seconds) it sees."""
        return self._move(at, lambda: self.coroutine.send(None))

    def resume(
        self, at: float, value: Any, *, was_done: bool = True, pos: int | None = None
    ) -> Moved:
        """Answers a step with ``value``; ``was_done``: its participant said so.

        ``pos``: which, if there are several. The code moves if that is all it waited for.
        """
        leaf = self._take(pos)
        if leaf is None:
            return self._move(at, lambda: self.coroutine.send(value))
        self._keep_undo(leaf.step, is_done=was_done)
        return self._settle(at, leaf, End(value))

    def throw(
        self, at: float, error: SagaEnd, *, may_have_run: bool, pos: int | None = None
    ) -> Moved:
        """Ends a step with ``error``; keeps its undo if it may have run."""
        leaf = self._take(pos)
        if leaf is None:
            return self._move(at, lambda: self.coroutine.throw(error))
        if may_have_run:
            self._keep_undo(leaf.step, is_done=False)
        return self._settle(at, leaf, End(error=error))

    def cancel(self, at: float, error: Cancelled) -> Moved:
        """Ends all that it waits for with ``error``."""
        self._drop(self._root)
        return self._move(at, lambda: self.coroutine.throw(error))

    def drop(self) -> None:
        """Closes the coroutine; every step it would still ask for is refused."""
        self.saga._dropped = True
        try:
            self.coroutine.close()
        except (Exception, Evicted):
            return  # its finally blocks are no part of the saga: undo is registered

    def _take(self, pos: int | None) -> Leaf | None:
        if pos is None and self._leaves:
            (pos,) = self._leaves
        self.dropped = ()
        self.open.pop(pos or 0, None)
        return self._leaves.pop(pos or 0, None)

    def _settle(self, at: float, leaf: Leaf, end: End) -> Moved:
        """A step has ended; the code moves if with it ends all that it waits for."""
        highest = leaf.settle(end)
        if isinstance(highest, Fork):
            self._drop(highest)
        if highest is not self._root or highest.end is None:
            return Steps()
        value, error = highest.end.value, highest.end.error
        if error is not None:
            return self._move(at, lambda: self.coroutine.throw(error))
        return self._move(at, lambda: self.coroutine.send(value))

    def _drop(self, branch: Branch | None) -> None:
        """Nobody waits any more for what is still open of ``branch``."""
        leaves = () if branch is None else branch.leaves()
        left = [leaf.step for leaf in leaves if leaf.step.pos in self._leaves]
        for step in left:
            del self._leaves[step.pos], self.open[step.pos]
            self._keep_undo(step, is_done=False)
        self.dropped = tuple(left)

    def _keep_undo(self, step: Step, *, is_done: bool) -> None:
        action = step.action
        if isinstance(action, Start) and action.on_cancel == "cancel":
            # A child is taken back like a call whose outcome is unknown, unless it is abandoned.
            call = Call(action.command, action.undo, 0.0, "hold", False)
            self.undos.append(Undo(step.pos, call))
        if isinstance(action, Join) and is_done:
            self._note_done(action.start)
        if isinstance(action, Call) and (action.undo is not None or not is_done):
            self.undos.append(Undo(step.pos, action, was_done=is_done))

    def _note_done(self, start: int) -> None:
        """A child has completed: its undo is owed, also when its participant has forgotten it."""
        self.saga.undos = [
            msgspec.structs.replace(undo, was_done=True) if undo.pos == start else undo
            for undo in self.saga.undos
        ]

    def _move(self, at: float, go: Callable[[], Any]) -> Moved:
        self.saga._at = at
        self._root = None
        try:
            asked = go()
        except StopIteration as end:
            self._refuse_forgotten()
            return Returned(end.value)
        except SagaEnd as error:
            return Unwound(error)
        except Exception as err:
            if is_lost_in_async(err):
                raise SagaMisuse(instead(err)) from err
            raise
        if not isinstance(asked, Branch):
            raise SagaMisuse(f"the saga awaited {asked!r}; {ONLY}")
        return self._wait(asked)

    def _wait(self, asked: Branch) -> Moved:
        self._root = asked
        if isinstance(asked, Leaf):  # by far the most
            step = asked.step
            self._leaves, self.open = {step.pos: asked}, {step.pos: step}
            return step
        self._leaves = {leaf.step.pos: leaf for leaf in asked.leaves()}
        self.open = {pos: leaf.step for pos, leaf in self._leaves.items()}
        return Steps(tuple(self.open.values()))

    def _refuse_forgotten(self) -> None:
        for forgotten in self.saga.created.values():
            raise SagaMisuse(
                f"{forgotten!r} was created but never awaited: write `await` before it"
            )
