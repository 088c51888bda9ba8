"""What a test asks for, in words of the simulator: types, participants, points, calls outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from outboxd.errors import ConfigError
from outboxd.message import Message
from outboxd.registry import Registry
from outboxd.words import nearest

from . import ways
from .choices import Kind, Point
from .script import Answer, Rule, Script

if TYPE_CHECKING:
    from .stage import Recorder

Fits = Callable[[Point], bool]


class TypeNames:
    """The names that a test may use. Raises ConfigError for others, with the nearest."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def known(self, kind: type[Message] | str) -> str:
        """A message type; given by name, one that the hosted participants handle or send."""
        name = kind if isinstance(kind, str) else kind.__name__
        found = self._registry.messages.get(name)
        if found is None and isinstance(kind, str):
            raise ConfigError(f"no participant here knows {name}{_meant(name, self._all())}")
        if found is not None and not isinstance(kind, str) and found is not kind:
            raise ConfigError(
                f"{name} of {kind.__module__} is not the one of {found.__module__}, which is hosted"
            )
        return name

    def handled(self, kind: type[Message] | str) -> str:
        """A message type for which a hosted participant has a handler, or a schedule's name."""
        if any(kind in plans for plans in self._registry.schedules.values()):
            return str(kind)
        name = self.known(kind)
        if not any(type_name == name for _, type_name in self._registry.handlers):
            what = "starts a saga, and" if self._starts(name) else "has no handler here:"
            handled = sorted({type_name for _, type_name in self._registry.handlers})
            raise ConfigError(f"{name} {what} there are handlers for {', '.join(handled)}")
        return name

    def takers(self, name: str) -> list[str]:
        """The participants that take a message from outside."""
        found = [
            participant
            for participant, type_name in (*self._registry.handlers, *self._registry.sagas)
            if type_name == name
        ]
        found += [
            participant
            for participant in self._registry.participants
            if participant not in found and self._registry.receivers(participant, name)
        ]
        if not found:
            raise ConfigError(f"no participant here takes {name}")
        return found

    def participants(self, name: str | None) -> list[str]:
        """One participant, or all."""
        names = list(self._registry.participants)
        if name is None:
            return names
        if name not in names:
            raise ConfigError(f"no participant {name!r} is hosted here{_meant(name, names)}")
        return [name]

    def _all(self) -> list[str]:
        return list(self._registry.messages)

    def _starts(self, name: str) -> bool:
        return any(type_name == name for _, type_name in self._registry.sagas)


def _meant(name: str, names: Iterable[str]) -> str:
    near = nearest(name, names)
    return f"; did you mean {near}?" if near else f"; there are {', '.join(sorted(names))}"


def fits_type(kind: Kind, name: str, at: str | None, answer: bool = False) -> Fits:
    """Points about a message of a type, or about its answer."""

    def fits(point: Point) -> bool:
        if point.kind != kind or point.type != name or point.part == "close":
            return False
        return (point.part == "reply") == answer and at in (None, point.who)

    return fits


def fits_commit(name: str, answer: bool) -> Fits:
    """Commits that a message of a type, or its answer, leads to."""
    return fits_type("commit", name, None, answer)


def fits_published(recorder: Recorder, name: str, answer: bool) -> Fits:
    """Points after a message of a type, or an answer to it, was published."""

    def fits(point: Point) -> bool:
        return point.kind == "publish" and any(
            envelope.type == name and (envelope.kind == "reply") == answer
            for envelope in recorder.fresh
        )

    return fits


class Outside:
    """What calls to the outside meet: each method is for the next ones that come."""

    def __init__(self, script: Script, name: str, participant: str | None) -> None:
        self._script = script
        self._name = name
        self._participant = participant

    def fails(self, *, times: int = 1) -> None:
        """It fails before it acts."""
        self._rule("fails", ways.FAILS_BEFORE, times)

    def fails_after_acting(self, *, times: int = 1) -> None:
        """It acts, and its answer is lost."""
        self._rule("fails_after_acting", ways.FAILS_AFTER, times)

    def hangs(self, *, times: int = 1) -> None:
        """It acts, and does not answer before the handler's time is over."""
        self._rule("hangs", ways.HANGS, times)

    def returns(self, value: Any) -> None:
        """It returns ``value`` from now on, and what was registered as a fake is not called."""
        self._script.answers.append(Answer(self._said("returns"), self._fits, value=value))

    def raises(self, error: Exception, *, times: int = 1) -> None:
        """It answers with an error of its own, without having acted."""
        self._script.answers.append(Answer(self._said("raises"), self._fits, times, error=error))

    def _fits(self, participant: str, name: str) -> bool:
        return name == self._name and self._participant in (None, participant)

    def _rule(self, verb: str, way: str, times: int) -> None:
        def fits(point: Point) -> bool:
            return point.kind == "outside" and self._fits(point.who, point.name)

        self._script.rules.append(Rule(self._said(verb), way, fits, times))

    def _said(self, verb: str) -> str:
        return f"outside({self._name!r}).{verb}()"
