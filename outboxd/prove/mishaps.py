"""What a test asks to go wrong in a simulation: next, for a while, or until it is fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from outboxd.clock import seconds
from outboxd.errors import ConfigError, Reject
from outboxd.message import Command, Message

from . import ways
from .asked import Outside, TypeNames, fits_commit, fits_published, fits_type
from .choices import Point
from .script import FOREVER, Rule
from .stage import Stage
from .standins import StandIns

R = TypeVar("R")

Kill = Literal["before commit", "after commit", "after publish", "after acting"]
"""Where a process can be killed: around a commit, after it published, after the outside acted."""


class Mishaps:
    """The part of a simulation that a test has in its hands before anything happens."""

    def __init__(self, stage: Stage, stand_ins: StandIns) -> None:
        self._stage = stage
        self._stand_ins = stand_ins
        self._registry = stage.cast.registry
        self._types = TypeNames(self._registry)

    def fail_next(
        self,
        kind: type[Message] | str,
        *,
        times: int = 1,
        error: Exception | None = None,
        at: str | None = None,
    ) -> None:
        """The next ``times`` tries of a handler fail, with ``error`` if given.

        ``at``: whose handler, where several participants have one for an event.
        """
        name = self._types.handled(kind)
        self._rule(f"fail_next({name})", ways.RAISES, fits_type("handle", name, at), times, error)

    def poison(self, kind: type[Message] | str, *, at: str | None = None) -> None:
        """All tries of a handler fail, until ``fix``."""
        name = self._types.handled(kind)
        self._rule(f"poison({name})", ways.RAISES, fits_type("handle", name, at), FOREVER)

    def fix(self, kind: type[Message] | str) -> None:
        """What ``poison`` or ``fail_next`` did to a handler is over."""
        name = self._types.handled(kind)
        for rule in self._stage.script.rules:
            if rule.text in (f"poison({name})", f"fail_next({name})"):
                rule.left = 0

    def reject_next(
        self, kind: type[Command[Any]] | str, reason: str = "no", *, times: int = 1
    ) -> None:
        """The next ``times`` commands of a type are rejected: a business "no"."""
        name = self._types.handled(kind)
        fits = fits_type("handle", name, None)
        self._rule(f"reject_next({name})", ways.REJECTS, fits, times, Reject(reason))

    def duplicate(self, kind: type[Message] | str, *, times: int = 1, answer: bool = False) -> None:
        """The next delivery of a type comes twice; with ``answer``, that of its answer."""
        name = self._types.known(kind)
        fits = fits_type("read", name, None, answer)
        self._rule(f"duplicate({name})", ways.TWICE, fits, times)

    def lose_next(self, kind: type[Message] | str, *, times: int = 1, answer: bool = False) -> None:
        """A stranger deletes the next message of a type, or its answer, from the broker."""
        name = self._types.known(kind)
        self._rule(f"lose_next({name})", ways.LOST, fits_type("read", name, None, answer), times)

    def delay(self, kind: type[Message] | str, span: str | float, *, answer: bool = False) -> None:
        """The next message of a type, or its answer, is read ``span`` later, and all behind it."""
        name = self._types.known(kind)
        fits = fits_type("read", name, None, answer)
        rule = self._rule(f"delay({name})", ways.AWAY, fits)
        rule.span_s = seconds(span)

    def crash_at(
        self,
        point: Kill,
        where: type[Message] | str,
        *,
        times: int = 1,
        skip: int = 0,
        answer: bool = False,
    ) -> None:
        """Kills a process where it hurts: the next time it comes to ``point``.

        ``where``: the participant, by name, or the message of which it is; ``answer``: of its
        answer; ``skip``: so many such points are passed by first (an effect has several commits).
        """
        points = {
            "before commit": ways.KILLED,
            "after commit": ways.KILLED_AFTER,
            "after publish": ways.KILLED_PUBLISHED,
            "after acting": ways.KILLED_ACTING,
        }
        if point not in points:
            raise ConfigError(
                f"{point!r} is no point to crash at: it is one of {', '.join(points)}"
            )
        text = f"crash_at({point!r}, {_name(where)})"
        self._rule(text, points[point], self._place(point, where, answer), times).skip = skip

    def refuse_commit(
        self, where: type[Message] | str, *, times: int = 1, skip: int = 0, answer: bool = False
    ) -> None:
        """The disk refuses the next commit of a participant, or of a type of message."""
        fits = self._place("commit", where, answer)
        self._rule(f"refuse_commit({_name(where)})", ways.REFUSED, fits, times).skip = skip

    def answers(self, kind: type[Command[R]], value: R) -> None:
        """What a stand-in answers from now on, instead of a made-up value."""
        name = self._types.handled(kind)
        if kind.__outboxd__.to not in self._stand_ins.participants:
            raise ConfigError(f"{name} is answered by its own participant, which is hosted here")
        self._stand_ins.replies[name] = value

    def outside(self, name: str, *, of: str | None = None) -> Outside:
        """What the next calls ``ctx.once(name, …)`` meet; ``of``: a participant.

        shop.outside("book").hangs()
        shop.outside("book").returns("C-1")
        """
        return Outside(self._stage.script, name, self._names(of)[0] if of else None)

    def _rule(
        self,
        text: str,
        way: str,
        fits: Callable[[Point], bool],
        times: int = 1,
        error: Exception | None = None,
    ) -> Rule:
        rule = Rule(text, way, fits, times, error=error)
        self._stage.script.rules.append(rule)
        return rule

    def _place(
        self, point: str, where: type[Message] | str, answer: bool
    ) -> Callable[[Point], bool]:
        if isinstance(where, str) and where in self._stage.nodes:
            kinds = {"after publish": "publish", "after acting": "outside"}
            kind = kinds.get(point, "commit")
            return lambda at: at.kind == kind and at.who == where
        name = self._types.known(where)
        if point == "after publish":
            return fits_published(self._stage.recorder, name, answer)
        if point == "after acting":
            return fits_type("outside", name, None)
        return fits_commit(name, answer)

    def _names(self, participant: str | None) -> list[str]:
        return self._types.participants(participant)


def _name(where: type[Message] | str) -> str:
    return where if isinstance(where, str) else where.__name__
