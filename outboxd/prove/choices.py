"""What nature and operators may do in one schedule, and who decides it.

At each *point* of a run something may go wrong in one of several named ways; a chooser picks one,
or none. A schedule is the set of (point, what) that was picked, so it can be run again, made
shorter and written down.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

Kind = Literal["start", "next", "read", "handle", "outside", "commit", "publish", "moved", "letter"]
"""What is at stake at a point."""

ORDER = "first: "
"""Alternatives that begin so are another order, not a failure."""


class Point(msgspec.Struct, frozen=True, gc=False):
    """Where something could have gone otherwise: what was about to happen, and in which ways.

    ``kind``: what is at stake; ``who``: the participant; ``type`` and ``part`` (command, event,
    reply, undo or close): of the message it is about, if it is about one; ``name``: of a call to
    the outside. ``what`` says all that to people, and nothing matches on it.
    """

    what: str
    ways: tuple[str, ...]
    kind: Kind
    who: str = ""
    type: str = ""
    part: str = ""
    name: str = ""

    @property
    def passed(self) -> Point:
        """The same, with no way left to go otherwise."""
        return Point(self.what, (), self.kind)


Plan = tuple[tuple[int, str], ...]
"""A schedule: number of the point and the way that was taken there, in order."""

Remembered = tuple[str, int, str]
"""A step of a schedule for later: at which point, the how-manieth of that text, and the way."""


class Chooser(Protocol):
    """Decides at each point. ``points``: all that came by; ``taken``: what was picked."""

    points: list[Point]
    taken: list[tuple[int, str]]

    def choose(self, point: Point) -> str | None:
        """One of its ways, or None for the usual course."""
        ...


class Planned:
    """Follows a plan; at every other point things take their usual course.

    ``past``: the points that came by already, where a run goes on from a moment of another one.
    """

    def __init__(self, plan: Plan, past: Sequence[Point] = ()) -> None:
        self.points: list[Point] = list(past)
        self.taken: list[tuple[int, str]] = [step for step in plan if step[0] < len(past)]
        self.last = plan[-1][0] if plan else -1
        self._plan = dict(plan)

    def choose(self, point: Point) -> str | None:
        at = len(self.points)
        self.points.append(point)
        way = self._plan.get(at)
        if way is None or way not in point.ways:
            return None
        self.taken.append((at, way))
        return way


class Recalled:
    """Follows a schedule by what its points are about, so that it outlives changes of the code."""

    def __init__(self, steps: Sequence[Remembered]) -> None:
        self.points: list[Point] = []
        self.taken: list[tuple[int, str]] = []
        self.missed = list(steps)
        self._times: Counter[str] = Counter()

    def choose(self, point: Point) -> str | None:
        at = len(self.points)
        self.points.append(point)
        self._times[point.what] += 1
        for step in self.missed:
            what, nth, way = step
            if what == point.what and nth == self._times[what] and way in point.ways:
                self.missed.remove(step)
                self.taken.append((at, way))
                return way
        return None


def remembered(chooser: Chooser) -> list[Remembered]:
    """What was picked, for ``Recalled``."""
    found: list[Remembered] = []
    for at, way in chooser.taken:
        what = chooser.points[at].what
        nth = sum(point.what == what for point in chooser.points[: at + 1])
        found.append((what, nth, way))
    return found


class Chance:
    """Draws from a seeded generator; ``faults`` at most, each with probability ``rate``.

    Another order is no fault and comes with probability ``disorder``.
    """

    def __init__(self, seed: int, faults: int, rate: float, disorder: float) -> None:
        self.points: list[Point] = []
        self.taken: list[tuple[int, str]] = []
        self._rng = random.Random(seed)
        self._left = faults
        self._rate = rate
        self._disorder = disorder

    def choose(self, point: Point) -> str | None:
        at = len(self.points)
        self.points.append(point)
        way = self._draw(point.ways)
        if way is not None:
            self.taken.append((at, way))
        return way

    def _draw(self, ways: Sequence[str]) -> str | None:
        is_order = ways[0].startswith(ORDER)
        if is_order:
            return self._rng.choice(ways) if self._rng.random() < self._disorder else None
        if self._left <= 0 or self._rng.random() >= self._rate:
            return None
        self._left -= 1
        return self._rng.choice(ways)
