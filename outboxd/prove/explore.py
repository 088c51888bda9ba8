"""Goes through the schedules: all with at most N failures, then random ones for as long as wished.

Systematic: the usual course first, then each single failure at each point, then pairs, and so on;
so the first violation found is one with the fewest failures. A run that comes to a state from which
everything was explored already is not followed further: equal states (all tables, broker, time,
effects under way) go on in equal ways. What a plugin keeps outside of its tables is not seen.
"""

from __future__ import annotations

import gc
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import TypeVar

import msgspec

from outboxd.message import Envelope, Message

from .cast import Cast
from .choices import Chance, Chooser, Plan, Planned, Point
from .oracles import Violated
from .spread import spread
from .world import HORIZON_S, Told, World

T = TypeVar("T")

Starts = Sequence[tuple[str, Envelope]]

_WORTH_IT = 300
"""Runs from which on several processes are faster than one."""

_LOOKS = 8
"""States after the last failure that are compared; most runs come back to the usual course soon."""


class Found(msgspec.Struct, frozen=True):
    """A violation, and the schedule that leads to it."""

    rule: str
    details: list[str]
    plan: Plan
    points: list[str]
    story: list[Told]
    starts: list[tuple[str, Envelope]]


class Tally(msgspec.Struct):
    """What was explored. ``ran``: schedules that were run; ``equal``: further ones that lead to a
    state from which everything was explored; ``total``: of the systematic ones, as far as known.
    """

    ran: int = 0
    equal: int = 0
    total: int = 0
    random: int = 0
    faults: int = 0
    is_complete: bool = True

    @property
    def covered(self) -> int:
        return self.ran + self.equal


class _Known(msgspec.Struct, frozen=True, gc=False):
    """Of a state: with how many further failures it is explored, and how many ways lie after it."""

    budget: int
    ways: int


class _Equal(BaseException):
    """The run has come to a known state."""

    def __init__(self, known: _Known) -> None:
        super().__init__()
        self.known = known


class _Branch(msgspec.Struct, frozen=True):
    """A schedule that was run, and the points at which its children go another way."""

    plan: Plan
    points: list[Point]


class Explorer:
    """Explores ``cast``. ``tell(tally)`` is called now and then; ``ends_at`` in monotonic seconds.

    ``horizon_s``: virtual seconds after which whatever has not ended is taken to wait for ever;
    ``jobs``: processes that share the work.
    """

    def __init__(
        self,
        cast: Cast,
        *,
        horizon_s: float = HORIZON_S,
        tell: Callable[[Tally], None] = lambda tally: None,
        ends_at: float = float("inf"),
        jobs: int = 1,
    ) -> None:
        self.tally = Tally()
        self._jobs = jobs
        self._cast = cast
        self._horizon_s = horizon_s
        self._tell = tell
        self._ends_at = ends_at
        self._seen: dict[int, _Known] = {}

    def systematic(self, messages: Sequence[Message], faults: int) -> Found | None:
        """Every schedule of these starts with at most ``faults`` failures."""
        starts = self._starts(messages)
        self._seen = {}
        self.tally.faults = max(self.tally.faults, faults)
        branch, found = self._branch(starts, (), faults)
        if found is not None:
            return found
        level = [branch]
        for left in range(faults - 1, -1, -1):
            count = sum(len(p.ways) for b in level for p in b.points)
            self.tally.total += count
            if not left and self._jobs > 1 and count >= _WORTH_IT:
                return self._last_level(starts, level)
            following: list[_Branch] = []
            for plan in (plan for branch in level for plan in _children(branch)):
                if time.monotonic() > self._ends_at:
                    self.tally.is_complete = False
                    return None
                branch, found = self._branch(starts, plan, left)
                if found is not None:
                    return found
                if left:
                    following.append(branch)
            level = following
        return None

    def random(
        self, messages: Sequence[Message], seed: int, runs: int, most: int = 6
    ) -> Found | None:
        """``runs`` random schedules, each with up to ``most`` failures and in another order."""
        starts = self._starts(messages)

        def numbers() -> Iterator[int]:
            return takewhile(lambda _: time.monotonic() <= self._ends_at, range(runs))

        def work(number: int) -> Found | None:
            dice = random.Random(f"{seed}/{number}")
            rate = dice.choice((0.02, 0.08, 0.2))
            chance = Chance(dice.randrange(2**32), dice.randint(1, most), rate, 0.25)
            return self._run(starts, chance)

        def tell(done: int) -> None:
            self.tally.random += done
            self._tell(self.tally)

        found = self._each(numbers, work, tell)
        return None if found is None else self._shorter(starts, found)

    def _last_level(self, starts: Starts, level: list[_Branch]) -> Found | None:
        """By several processes: their runs have no children."""

        def plans() -> Iterator[Plan]:
            children = (plan for branch in level for plan in _children(branch))
            return takewhile(lambda _: time.monotonic() <= self._ends_at, children)

        def tell(done: int) -> None:
            self.tally.ran += done
            self._tell(self.tally)

        found = self._each(plans, lambda plan: self._branch(starts, plan, 0)[1], tell)
        self.tally.is_complete = time.monotonic() <= self._ends_at
        return found

    def _each(
        self,
        items: Callable[[], Iterable[T]],
        work: Callable[[T], Found | None],
        tell: Callable[[int], None],
    ) -> Found | None:
        if self._jobs > 1:
            return spread(self._jobs, items, work, tell)
        for item in items():
            found = work(item)
            tell(1)
            if found is not None:
                return found
        return None

    def follow(self, messages: Sequence[Message], plan: Plan) -> Found | None:
        """One schedule."""
        return self._run(self._starts(messages), Planned(plan))

    def _starts(self, messages: Sequence[Message]) -> list[tuple[str, Envelope]]:
        return [self._cast.start_of(message, at) for at, message in enumerate(messages, 1)]

    def _branch(self, starts: Starts, plan: Plan, left: int) -> tuple[_Branch, Found | None]:
        """Runs ``plan``; ``left`` failures may still be added to it."""
        chooser = Planned(plan)
        marks: list[tuple[int, int]] = []
        looks = 0

        def look(world: World) -> None:
            nonlocal looks
            if len(chooser.points) <= chooser.last or (not left and looks >= _LOOKS):
                return
            looks += 1
            image = world.image()
            known = self._seen.get(image)
            if known is not None and known.budget >= left:
                raise _Equal(known)
            marks.append((image, len(chooser.points)))

        self.tally.ran += 1
        self._progress()
        after = 0
        try:
            found = self._run(starts, chooser, look)
        except _Equal as equal:
            found, after = None, equal.known.ways
            if left:
                self.tally.equal += after
                self.tally.total += after
        ways = 0
        passed = len(chooser.points)
        for image, at in reversed(marks):
            ways += sum(len(point.ways) for point in chooser.points[at:passed])
            passed = at
            self._seen[image] = _Known(left, ways + after)
        points = [
            point if at > chooser.last else Point(point.what, ())
            for at, point in enumerate(chooser.points)
        ]
        return _Branch(plan, points if left else []), found

    def _run(
        self,
        starts: Starts,
        chooser: Chooser,
        look: Callable[[World], None] = lambda world: None,
    ) -> Found | None:
        with quiet(), World(self._cast, starts, chooser, horizon_s=self._horizon_s) as world:
            world.checkpoint = lambda: look(world)
            try:
                world.run()
            except Violated as err:
                return Found(
                    err.rule,
                    err.details,
                    tuple(chooser.taken),
                    [chooser.points[at].what for at, _ in chooser.taken],
                    world.story,
                    list(starts),
                )
        return None

    def _shorter(self, starts: Starts, found: Found) -> Found:
        """Leaves out one failure after another, as long as the same rule is still violated."""
        plan = list(found.plan)
        for step in reversed(list(plan)):
            rest = tuple(s for s in plan if s != step)
            again = self._run(starts, Planned(rest))
            if again is not None and again.rule == found.rule:
                plan, found = list(again.plan), again
        return found

    def _progress(self) -> None:
        if (self.tally.ran + self.tally.random) % 50 == 0:
            self._tell(self.tally)


def _children(branch: _Branch) -> Iterator[Plan]:
    for at, point in enumerate(branch.points):
        for way in point.ways:
            yield (*branch.plan, (at, way))


@contextmanager
def quiet() -> Iterator[None]:
    """The engine's log lines of simulated failures help nobody."""
    log = logging.getLogger("outboxd")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def undisturbed() -> Iterator[None]:
    """Runs make much garbage without cycles: the collector looks only now and then."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
