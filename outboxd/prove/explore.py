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

from . import image, moment
from .cast import Cast
from .choices import Chance, Chooser, Plan, Planned, Point, Remembered, remembered
from .moment import Moment
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
    steps: list[Remembered]
    story: list[Told]
    starts: list[tuple[str, Envelope]]


class Tally(msgspec.Struct):
    """What was explored. ``ran``: schedules that were run; ``equal``: further ones that lead to a
    state from which everything was explored; ``total``: of the systematic ones, as far as known;
    ``random``: schedules that were drawn, from number ``first`` on.
    """

    ran: int = 0
    equal: int = 0
    total: int = 0
    random: int = 0
    first: int = 0
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
    """A schedule that was run: where its children go another way, and where they can begin.

    ``stops``: how many points had come by at each moment to which the run can be brought back.
    """

    plan: Plan
    points: list[Point]
    stops: list[int]

    @property
    def ways(self) -> int:
        return sum(len(point.ways) for point in self.points)


class _Stop(BaseException):
    """A branch is done, or a violation was found."""

    def __init__(self, found: Found | None = None) -> None:
        super().__init__()
        self.found = found


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
        branch, found = self._usual(starts, faults)
        if found is not None:
            return found
        level = [branch]
        for left in range(faults - 1, -1, -1):
            count = sum(branch.ways for branch in level)
            self.tally.total += count
            if not left and self._jobs > 1 and count >= _WORTH_IT:
                return self._last_level(starts, level)
            following: list[_Branch] = []
            for branch in level:
                children, found = self._expand(starts, branch, left)
                following += children
                if found is not None or not self.tally.is_complete:
                    return found
            level = following
        return None

    def random(
        self, messages: Sequence[Message], seed: int, runs: range, most: int = 6
    ) -> Found | None:
        """Random schedules, each with up to ``most`` failures and in another order.

        ``runs``: their numbers; each number of a seed is one schedule, the same every time.
        """
        starts = self._starts(messages)
        self.tally.first = runs.start

        def work(number: int) -> tuple[int, Found | None]:
            dice = random.Random(f"{seed}/{number}")
            rate = dice.choice((0.02, 0.08, 0.2))
            chance = Chance(dice.randrange(2**32), dice.randint(1, most), rate, 0.25)
            return 1, self._run(starts, chance)

        def tell(done: int) -> None:
            self.tally.random += done
            self._tell(self.tally)

        found = self._each(lambda: self._in_time(runs), work, tell)
        return None if found is None else self._shorter(starts, found)

    def _last_level(self, starts: Starts, level: list[_Branch]) -> Found | None:
        """By several processes: their runs have no children."""

        def work(branch: _Branch) -> tuple[int, Found | None]:
            before = self.tally.ran
            found = self._expand(starts, branch, 0)[1]
            return self.tally.ran - before, found

        found = self._each(lambda: self._in_time(level), work, self._count_ran)
        self.tally.is_complete = time.monotonic() <= self._ends_at
        return found

    def _in_time(self, items: Iterable[T]) -> Iterator[T]:
        return takewhile(lambda _: time.monotonic() <= self._ends_at, items)

    def _count_ran(self, done: int) -> None:
        self.tally.ran += done
        self._tell(self.tally)

    def _each(
        self,
        items: Callable[[], Iterable[T]],
        work: Callable[[T], tuple[int, Found | None]],
        tell: Callable[[int], None],
    ) -> Found | None:
        if self._jobs > 1:
            return spread(self._jobs, items, work, tell)
        for item in items():
            done, found = work(item)
            tell(done)
            if found is not None:
                return found
        return None

    def follow(self, messages: Sequence[Message], chooser: Chooser) -> Found | None:
        """One schedule."""
        return self._run(self._starts(messages), chooser)

    def _starts(self, messages: Sequence[Message]) -> list[tuple[str, Envelope]]:
        return [self._cast.start_of(message, at) for at, message in enumerate(messages, 1)]

    def _usual(self, starts: Starts, left: int) -> tuple[_Branch, Found | None]:
        """The usual course; ``left`` failures may be added to it."""
        with self._world(starts, Planned(())) as world:
            return self._follow(world, starts, (), [], left)

    def _expand(
        self, starts: Starts, branch: _Branch, left: int
    ) -> tuple[list[_Branch], Found | None]:
        """Runs a schedule once more and, at its points, each that goes another way there."""
        children: list[_Branch] = []
        main = Planned(branch.plan)
        stops = dict(zip(branch.stops, [*branch.stops[1:], len(branch.points)], strict=True))
        try:
            with self._world(starts, main) as world:

                def branch_off() -> None:
                    at = len(main.points)
                    if at >= len(branch.points):
                        raise _Stop
                    until = stops.pop(at, at)
                    if any(point.ways for point in branch.points[at:until]):
                        self._others(world, starts, branch, range(at, until), left, children)
                        world.chooser, world.checkpoint = main, branch_off

                world.checkpoint = branch_off
                world.run()
        except _Stop as stop:
            return children, stop.found
        return children, None

    def _others(
        self,
        world: World,
        starts: Starts,
        branch: _Branch,
        points: range,
        left: int,
        children: list[_Branch],
    ) -> None:
        """Each other way at ``points``, from this moment on."""
        past = list(world.chooser.points)
        here = Moment(world)
        for at in points:
            for way in branch.points[at].ways:
                if time.monotonic() > self._ends_at:
                    self.tally.is_complete = False
                    raise _Stop
                plan = (*branch.plan, (at, way))
                child, found = self._follow(world, starts, plan, past, left)
                here.again()
                if found is not None:
                    raise _Stop(found)
                if left:
                    children.append(child)
        here.release()

    def _follow(
        self, world: World, starts: Starts, plan: Plan, past: list[Point], left: int
    ) -> tuple[_Branch, Found | None]:
        """Runs ``plan`` from where ``world`` stands, to its end or to a known state."""
        chooser = Planned(plan, past)
        marks: list[tuple[int, int]] = []
        stops = [len(past)]
        looks = 0

        def look() -> None:
            nonlocal looks
            if len(chooser.points) <= chooser.last or (not left and looks >= _LOOKS):
                return
            looks += 1
            number = image.of(world)
            known = self._seen.get(number)
            if known is not None and known.budget >= left:
                raise _Equal(known)
            marks.append((number, len(chooser.points)))
            if left and len(chooser.points) > stops[-1] and moment.is_possible(world):
                stops.append(len(chooser.points))

        world.chooser, world.checkpoint = chooser, look
        self.tally.ran += 1
        self._progress()
        found, after = None, 0
        try:
            found = self._ended(world, starts, chooser)
        except _Equal as equal:
            after = equal.known.ways
            if left:
                self.tally.equal += after
                self.tally.total += after
        self._remember(chooser, marks, left, after)
        if not left:
            return _Branch(plan, [], []), found
        points = [
            point if at > chooser.last else point.passed for at, point in enumerate(chooser.points)
        ]
        return _Branch(plan, points, stops), found

    def _remember(
        self, chooser: Planned, marks: list[tuple[int, int]], left: int, after: int
    ) -> None:
        """The states of a run are explored with ``left`` further failures."""
        ways, passed = after, len(chooser.points)
        for number, at in reversed(marks):
            ways += sum(len(point.ways) for point in chooser.points[at:passed])
            passed = at
            self._seen[number] = _Known(left, ways)

    def _run(self, starts: Starts, chooser: Chooser) -> Found | None:
        with self._world(starts, chooser) as world:
            return self._ended(world, starts, chooser)

    @contextmanager
    def _world(self, starts: Starts, chooser: Chooser) -> Iterator[World]:
        with quiet(), World(self._cast, starts, chooser, horizon_s=self._horizon_s) as world:
            yield world

    def _ended(self, world: World, starts: Starts, chooser: Chooser) -> Found | None:
        """Runs it to its end; what is violated on the way."""
        try:
            world.run()
        except Violated as err:
            return Found(
                err.rule,
                err.details,
                tuple(chooser.taken),
                remembered(chooser),
                list(world.story),
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
