"""What happens next in a run: what may happen now, in its usual order, or else time passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from outboxd.batch import NEVER
from outboxd.message import decode_envelope

from .cast import START
from .choices import ORDER, Point
from .node import Node, said
from .oracles import Violated

if TYPE_CHECKING:
    from .world import World

Act = Callable[[], None]
Able = tuple[Callable[[], str], Act]
"""How it is told, and what is done."""


class Agenda:
    """Of one run. ``horizon``: UTC seconds after which nothing is waited for."""

    def __init__(self, world: World, horizon: float) -> None:
        self._world = world
        self._horizon = horizon

    def next(self) -> Act | None:
        """What is to be done now; None if there is nothing before time has passed."""
        found = self._urgent()
        if found is not None:
            return found
        able = list(self._able())
        if able:
            return self._chosen(able)
        for node in self._world.nodes.values():
            if node.is_up and not node.is_settled and not node.is_unpublished:
                before = node.numbers()
                self._world.do(self._of(node, node.watch))
                if not node.is_up or node.numbers() != before or node.is_unpublished:
                    return lambda: None
        return None

    def _chosen(self, able: list[Able]) -> Act:
        """The first, or what the chooser wants to come before it."""
        first, *others = able
        others += self._early()
        if others:
            ways = tuple(f"{ORDER}{what()}" for what, _ in others)
            way = self._world.chooser.choose(Point(f"what comes next: {first[0]()}", ways, "next"))
            if way is not None:
                return others[ways.index(way)][1]
        return first[1]

    def _urgent(self) -> Act | None:
        """What nobody could see the order of, in its usual one."""
        world = self._world
        for node in world.nodes.values():
            if node.was_killed or node.was_stopped:
                return self._of(node, node.start)
            if node.to_heal:
                return self._of(node, node.heal)
            if node.is_unpublished:
                return self._of(node, lambda node=node: world.publish(node))  # type: ignore[misc]
            if node.has_suspects:
                return self._of(node, node.examine_suspect)
            if node.is_behind and node.is_up:
                ready = [f for f, c in node.consumers.items() if not c.is_caught_up]
                if all(world.broker.head(feed) is None for feed in ready):
                    return self._of(node, node.catch_up)
        return None

    def _able(self) -> Iterator[Able]:
        """What may happen now, the usual first: starts, effects, deliveries, what is due."""
        world = self._world
        if world.starts:
            name, envelope = world.starts[0]
            yield (
                lambda: f"{name} gets {said(envelope)}",
                lambda: world.take_start(name, envelope),
            )
        for node in world.nodes.values():
            for effect in node.effects:
                if effect.is_ready:
                    yield (
                        lambda n=node, e=effect: f"{n.name} goes on with {e}",  # type: ignore[misc]
                        lambda n=node, e=effect: world.go_on(n, e),  # type: ignore[misc]
                    )
        heads = [
            (head[0], node, feed, head[1])
            for node in world.nodes.values()
            for feed in world.cast.feeds[node.name]
            if feed not in world.away and (head := world.broker.head(feed)) is not None
        ]
        for _, node, feed, body in sorted(heads, key=lambda head: head[0]):
            yield (
                lambda n=node, b=body: f"{n.name} reads {said(decode_envelope(b))}",  # type: ignore[misc]
                lambda n=node, f=feed, b=body: world.deliver(n, f, b),  # type: ignore[misc]
            )
        for node in world.nodes.values():
            if (node.is_up and node.due_at <= world.clock.at) or node.fires_at <= world.clock.at:
                yield (
                    lambda n=node: f"{n.name} looks at what is due",  # type: ignore[misc]
                    self._of(node, node.fall_due),
                )

    def _early(self) -> Iterator[Able]:
        """What was started may have come at any moment before a schedule's first firing."""
        for node in self._world.nodes.values():
            for name in node.unfired():
                yield (
                    lambda n=node, s=name: f"{n.name} fires its schedule {s}",  # type: ignore[misc]
                    self._of(node, lambda n=node, s=name: n.fire(s)),  # type: ignore[misc]
                )

    def _of(self, node: Node, act: Act) -> Act:
        return lambda: self._world.with_(node, act)

    # Time.

    def pass_time(self, until: float | None) -> bool:
        """To the next moment at which something happens; False if there is none (before it)."""
        world = self._world
        at = self._next_at(is_resting=until is None and world.most_firings is None)
        if at == NEVER or (until is not None and at > until):
            world.clock.at = max(world.clock.at, until or 0.0)
            return False
        if at > self._horizon:
            raise Violated(
                f"nothing would happen before {(at - START) / 86400:.0f} days have passed",
                world.oracles.open_sagas(),
            )
        world.clock.at = max(world.clock.at, at)
        for feed in [f for f, back_at in world.away.items() if back_at <= world.clock.at]:
            del world.away[feed]
            world.tell(feed.reader, "is back")
        for node in world.nodes.values():
            for effect in list(node.effects):
                if effect.ends_at <= world.clock.at:
                    world.time_out(node, effect)
        return True

    def _next_at(self, *, is_resting: bool) -> float:
        """When something happens by itself. Schedules alone never end: then it may rest."""
        nodes = self._world.nodes.values()
        at = min(
            min((n.due_at for n in nodes if n.is_up), default=NEVER),
            min(self._world.away.values(), default=NEVER),
            min((e.ends_at for n in nodes for e in n.effects), default=NEVER),
            min((n.looks_at() for n in nodes), default=NEVER),
        )
        if is_resting and at == NEVER:
            return NEVER
        fires_at = min((n.fires_at for n in nodes), default=NEVER)
        return min(at, fires_at) if fires_at <= self._horizon else at
