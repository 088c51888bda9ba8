"""What a test asks to go wrong: rules that each take a way at the next points they fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from .choices import Point

FOREVER = 1 << 60


class Rule(msgspec.Struct):
    """``text``: how the test asked for it; ``way``: what happens; ``left``: how often still.

    ``skip``: fitting points that are passed by first; ``error``: what a handler raises then;
    ``span_s``: how long somebody is away.
    """

    text: str
    way: str
    fits: Callable[[Point], bool]
    left: int = 1
    skip: int = 0
    error: Exception | None = None
    span_s: float = 0.0
    used: int = 0


class Answer(msgspec.Struct):
    """What a call to the outside returns or raises, instead of what it would by itself."""

    text: str
    fits: Callable[[str, str], bool]
    left: int = FOREVER
    value: Any = UNSET
    error: Exception | None = None
    used: int = 0


class Script:
    """A chooser that follows rules. ``last``: the rule that was followed last."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.taken: list[tuple[int, str]] = []
        self.rules: list[Rule] = []
        self.answers: list[Answer] = []
        self.calls: set[str] = set()
        self.last: Rule | None = None

    def choose(self, point: Point) -> str | None:
        self.points.append(point)
        if point.kind == "outside":
            self.calls.add(point.name)
        for rule in self.rules:
            if rule.left > 0 and rule.way in point.ways and rule.fits(point):
                if rule.skip:
                    rule.skip -= 1
                    continue
                rule.left -= 1
                rule.used += 1
                self.last = rule
                self.taken.append((len(self.points) - 1, rule.way))
                return rule.way
        return None

    def answer(self, participant: str, name: str) -> Answer | None:
        """What the test has laid down for a call to the outside, the latest first."""
        for answer in reversed(self.answers):
            if answer.left > 0 and answer.fits(participant, name):
                answer.left -= 1
                answer.used += 1
                return answer
        return None

    def end(self) -> None:
        """From now on nothing goes wrong any more."""
        for rule in self.rules:
            rule.left = 0
        for answer in self.answers:
            answer.left = answer.left if answer.error is None else 0

    def unused(self) -> list[str]:
        """What the test asked for and never came."""
        asked: list[Rule | Answer] = [*self.rules, *self.answers]
        return [rule.text for rule in asked if not rule.used]
