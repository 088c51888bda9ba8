"""What goes wrong in a run, wherever one of its participants asks: it asks the chooser in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from outboxd.batch import Outcome
from outboxd.errors import Reject
from outboxd.firing import EVERY
from outboxd.message import Envelope

from . import ways
from .choices import Kind, Point
from .node import Node, said

if TYPE_CHECKING:
    from .effect import Effect
    from .world import World

FIXED_AFTER_S = 3600.0

_FATES = {ways.KILLED: "killed", ways.REFUSED: "refused", ways.KILLED_AFTER: "killed after"}


class Injected(Exception):
    """A failure that the schedule asked for."""


class OutsideFailed(Exception):
    """What the world outside answers where the schedule says so."""


class Nature:
    """Of one run."""

    def __init__(self, world: World) -> None:
        self._world = world

    def choose(
        self,
        what: str,
        ways: tuple[str, ...],
        kind: Kind,
        node: Node,
        envelope: Envelope | None = None,
        name: str = "",
    ) -> str | None:
        """How it goes at a point."""
        type_name, part = ("", "") if envelope is None else (envelope.type, envelope.kind)
        return self._world.chooser.choose(Point(what, ways, kind, node.name, type_name, part, name))

    # Commits.

    def before_commit(self, node: Node) -> str | None:
        """How the commit of ``node`` ends."""
        if not node.is_up:
            return None
        what = f"{node.name} {node.doing}"
        way = self.choose(what, tuple(_FATES), "commit", node, node.cause)
        if way is None:
            return None
        self._world.tell(node.name, f"{node.doing}: {way}", is_fault=True)
        return _FATES[way]

    def heard(self, node: Node, outcome: Outcome) -> None:
        """What was committed, after the commit."""

    # Handlers.

    def handle(self, participant: str, work: Callable[[], Any]) -> Any:
        """A def handler runs."""
        node = self._world.nodes[participant]
        envelope = node.handles
        assert envelope is not None
        if envelope.kind == EVERY:
            self._world.tell(node.name, f"runs {said(envelope)}")
        try:
            fails = self.before_handler(node, envelope)
            value = work()
        except Exception as err:
            self.noted(node, envelope, err)
            raise
        if fails is not None:
            raise fails  # after its work, so that all of it must be taken back
        node.ran[envelope.id] = envelope
        self.returned(envelope, value)
        return value

    def before_handler(self, node: Node, envelope: Envelope) -> Exception | None:
        """Raises what the schedule says, or returns what is to be raised after the work."""
        world = self._world
        if world.poisoned.get(envelope.id, 0.0) > world.clock.at:
            raise Injected("simulated: it still fails")
        able: tuple[str, ...] = (ways.RAISES, ways.POISON)
        able += (ways.REJECTS,) if self.may_refuse(envelope) else ()
        way = self.choose(f"{node.name} handles {said(envelope)}", able, "handle", node, envelope)
        if way is None:
            return None
        world.tell(node.name, f"{said(envelope)}: {way}", is_fault=True)
        if way == ways.REJECTS:
            raise self.refusal()
        world.hurt.add(envelope.id)
        if way == ways.POISON:
            world.poisoned[envelope.id] = world.clock.at + FIXED_AFTER_S
            raise self.failure()
        return self.failure()

    def may_refuse(self, envelope: Envelope) -> bool:
        """Whether a handler may say no: to somebody who waits for its answer."""
        return envelope.call is not None and not envelope.is_undo

    def refusal(self) -> Reject:
        """What a handler raises that says no."""
        return Reject("simulated: no")

    def failure(self) -> Exception:
        """What a handler raises that fails."""
        return Injected("simulated: a failure")

    def returned(self, envelope: Envelope, value: Any) -> None:
        """A handler has done its work; its transaction is still to be committed."""

    def noted(self, node: Node, envelope: Envelope, error: Exception) -> None:
        """An error of a handler, told. Raises Violated if it will never be otherwise."""
        if isinstance(error, Reject):
            self._world.oracles.refused(envelope)
        elif not isinstance(error, (Injected, OutsideFailed)):
            self._world.tell(node.name, f"raises {type(error).__name__}: {error}")
            self._world.oracles.failed(envelope, error)

    # The world outside.

    def at_outside(self, effect: Effect, name: str) -> str | None:
        """How a call to the outside goes."""
        envelope = effect.started.envelope
        what = f"{effect.node.name} calls {name!r} for {said(envelope)}"
        way = self.choose(what, ways.OUTSIDE, "outside", effect.node, envelope, name)
        if way is not None:
            self._world.hurt.add(envelope.id)
            told = f"{name!r} for {said(envelope)}: {way}"
            self._world.tell(effect.node.name, told, is_fault=True)
        return way

    def answer(self, effect: Effect, name: str) -> Any:
        """What a call to the outside returns; UNSET: what its fake does, or a made-up value."""
        return UNSET

    # Readers.

    def away_until(self) -> tuple[float, str]:
        """When a reader is back, and how that is told: just after the next deadline.

        Where that has passed already it is back a second from now: at no time, it never would be.
        """
        now = self._world.clock.at
        found = [
            at
            for node in self._world.nodes.values()
            for (at,) in node.rows("SELECT MIN(due_at) FROM outboxd_call")
            if at is not None
        ]
        return max(min(found, default=now + 60.0), now) + 1.0, ways.AWAY
