"""What a saga waits for: one step, or several side by side, of which all or the first must end.

Pure. A tree: leaves are steps, and a branch above them ends when its own have ended as it asks.
What it leaves open then is dropped: nobody waits for it any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from .errors import SagaEnd
from .steps import Step

OnError = Literal["cancel", "wait"]


class End(msgspec.Struct, frozen=True):
    """How a branch ended: with a value or with an error."""

    value: Any = None
    error: SagaEnd | None = None


class Branch:
    """Something that is waited for; ``end`` once it is over."""

    __slots__ = ("end", "index", "parent")

    def __init__(self) -> None:
        self.end: End | None = None
        self.parent: Fork | None = None
        self.index = 0

    def leaves(self) -> Iterator[Leaf]:
        """Its steps, in program order."""
        raise NotImplementedError

    def settle(self, end: End) -> Branch:
        """It has ended, and so may what it is part of have; returns the highest that has."""
        self.end = end
        parent = self.parent
        if parent is None:
            return self
        above = parent.ends_with(self.index, end)
        return self if above is None else parent.settle(above)


class Leaf(Branch):
    """One step."""

    __slots__ = ("step",)

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def leaves(self) -> Iterator[Leaf]:
        yield self


class Fork(Branch):
    """Several branches. With ``on_error="cancel"`` the first error ends it, with ``"wait"`` only
    that of the last one that is left.
    """

    __slots__ = ("_first_error", "_is_patient", "_is_race", "_left", "branches")

    def __init__(
        self, branches: Sequence[Branch], kind: Literal["all", "race"], on_error: OnError
    ) -> None:
        super().__init__()
        self.branches = branches
        self._is_race = kind == "race"
        self._is_patient = on_error == "wait"
        self._left = len(branches)
        self._first_error: End | None = None
        for index, branch in enumerate(branches):
            branch.parent, branch.index = self, index

    def leaves(self) -> Iterator[Leaf]:
        for branch in self.branches:
            yield from branch.leaves()

    def ends_with(self, index: int, end: End) -> End | None:
        """How it ends now that one of its branches has ended; None if it goes on."""
        self._left -= 1
        if end.error is None and self._is_race:
            return End((index, end.value))
        if end.error is not None:
            self._first_error = self._first_error or end
            if not self._is_patient:
                return end
        if self._left:
            return None
        return self._first_error or End(tuple(self._values()))

    def _values(self) -> Iterator[Any]:
        for branch in self.branches:
            yield None if branch.end is None else branch.end.value
