"""One run: the participants, a broker, time, and whatever may go wrong between them.

Without failures it is the usual course: what was committed is published, the oldest entry is
delivered next, time passes when nothing else is left to do. Wherever something could go otherwise
the chooser is asked. When all is quiet the operator comes and replays what died, as after a fix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import msgspec

from outboxd.batch import Started
from outboxd.errors import Refused, Unavailable
from outboxd.message import Envelope, decode_envelope, encode, in_stream
from outboxd.plugins import line_of
from outboxd.saga import where
from outboxd.stream import NoGroup

from . import ways
from .agenda import Agenda
from .broker import Feed, SimStream, VirtualClock
from .cast import START, Cast
from .choices import Chooser
from .effect import Effect
from .fakes import resource
from .guard import OutsideTouched
from .nature import Nature
from .node import Node, said
from .operator import Operator
from .oracles import Oracles, Violated
from .store import Killed

HORIZON_S = 30 * 86_400.0


class Told(msgspec.Struct, frozen=True, gc=False):
    """One line of a run's story. ``at``: virtual seconds since its start."""

    at: float
    who: str
    what: str
    is_fault: bool = False


class World:
    """One run of ``starts`` (participant, envelope). ``horizon_s``: how long anything may last."""

    most_steps = 3_000
    most_firings: int | None = 2
    """Of each schedule; None: as many as there is time for, and a run rests once it is all that
    would happen."""

    def __init__(
        self,
        cast: Cast,
        starts: Sequence[tuple[str, Envelope]],
        chooser: Chooser,
        *,
        horizon_s: float = HORIZON_S,
    ) -> None:
        self.cast = cast
        self.chooser = chooser
        self.clock = VirtualClock(START)
        self.broker = SimStream(self.clock)
        self.story: list[Told] = []
        self.nodes = {name: Node(self, name, cx) for name, cx in cast.connections.items()}
        self.oracles = Oracles(self)
        self.operator = Operator(self)
        self.hurt: set[str] = set()
        self.poisoned: dict[str, float] = {}
        self.replayed: set[str] = set()
        self.owed: set[tuple[str, str]] = set()
        self.sent: set[str] = set()
        self.away: dict[Feed, float] = {}
        self.steps = 0
        self.checkpoint: Callable[[], None] = lambda: None
        self.starts = list(starts)
        self.resources: dict[str, Any] = {}
        self.agenda = Agenda(self, START + horizon_s)
        self.nature = Nature(self)
        self._moved: list[Node] = []

    def __enter__(self) -> Self:
        self.cast.world = self
        for connection in self.cast.connections.values():
            connection.execute("BEGIN")
        return self

    def __exit__(self, *error: object) -> None:
        for node in self.nodes.values():
            node.kill()
        for connection in self.cast.connections.values():
            connection.execute("ROLLBACK")
        self.cast.world = None

    def run(self) -> None:
        """To the end, where everything is checked. Raises Violated."""
        self.checkpoint()
        self.settle()
        self.oracles.at_the_end()

    def settle(self, until: float | None = None) -> None:
        """Goes on until nothing is left to do, or (UTC seconds) ``until``. Raises Violated."""
        while True:
            self.steps += 1
            if self.steps > self.most_steps:
                said = f"no end after {self.most_steps:,} steps"
                raise Violated(said, self.oracles.open_sagas())
            action, now = self.agenda.next(), self.clock.at
            if action is not None:
                self.do(action)
            elif self.agenda.pass_time(until):
                if until is not None and self.clock.at > now:
                    self.steps = 0  # its end will come
            elif until is not None or not self.operator.look():
                return
            self.checkpoint()

    def with_(self, node: Node, act: Callable[[], None]) -> None:
        """Something happens to a participant: it may die of it, or find broker or disk away."""
        try:
            node.start()
            act()
        except Killed:
            node.kill()
            self.tell(node.name, "is killed", is_fault=True)
        except NoGroup:
            node.lose_groups()
        except Unavailable:
            if node.is_up:
                node.lose_broker()
                node.due_at = min(node.due_at, self.clock.at)
        except OutsideTouched as err:
            raise Violated(
                f"{line_of(err)}{node.name} touches the world outside in a transaction: {err}",
                ["a rollback does not take that back: use an async handler and ctx.once"],
            ) from err
        except Refused:  # what an operator asked for
            raise
        except Exception as err:
            raise Violated(
                f"{node.name}: outboxd itself failed", where(err).splitlines()[-8:]
            ) from err
        if node.is_up and node not in self._moved:
            self._moved.append(node)

    def do(self, action: Callable[[], None]) -> None:
        """An action; then an operator may intervene where a saga has moved."""
        action()
        moved, self._moved = self._moved, []
        for node in moved:
            if node.is_up and self.oracles.has_moved(node):
                self.operator.intervene(node)

    # Actions.

    def take_start(self, name: str, envelope: Envelope) -> None:
        """The first of the starts comes in, from outside or from a stranger."""
        self.starts.pop(0)
        node = self.nodes[name]
        if envelope.kind == "command" and envelope.id not in self.sent:
            what = f"{name} gets {said(envelope)} from outside"
            if self.nature.choose(what, (ways.BY_STREAM,), "start", node, envelope) is not None:
                self.tell("somebody", f"{ways.BY_STREAM}: {said(envelope)}")
                self.owed.add((name, envelope.id))
                self.broker.put(in_stream(name), encode(envelope))
                return
        self.sent.add(envelope.id)
        self.tell(name, f"gets {said(envelope)} from outside")
        self.with_(node, lambda: node.submit(envelope))
        if node.was_killed or not self.oracles.has_started(node, envelope):
            self.starts.append((name, envelope))  # whoever sends got no answer, and tries again

    def deliver(self, node: Node, feed: Feed, body: bytes) -> None:
        """A participant reads the next entry of a stream."""
        envelope = decode_envelope(body)
        what = f"{node.name} reads {said(envelope)}"
        able: tuple[str, ...] = (ways.TWICE, ways.AWAY)
        able += (ways.LOST,) if envelope.seq else ()
        able += (ways.TOGETHER,) if self.broker.unread(feed) > 1 else ()
        way = self.nature.choose(what, able, "read", node, envelope)
        if way == ways.AWAY:
            self.away[feed], away = self.nature.away_until()
            self.tell(node.name, f"{away}, before {said(envelope)}", is_fault=True)
            return
        if way is not None:
            self.tell("broker", f"{said(envelope)} to {node.name}: {way}", is_fault=True)
        if way == ways.LOST:
            self.broker.lose_head(feed)
            return
        if way == ways.TWICE:
            self.broker.repeat(feed)
        self.tell(node.name, f"reads {said(envelope)}")
        self.with_(node, lambda: node.take(feed, body, is_alone=way != ways.TOGETHER))

    def publish(self, node: Node) -> None:
        """What was committed goes to the broker."""
        node.publish()
        able = (ways.KILLED_PUBLISHED, ways.EMPTIED)
        way = self.nature.choose(f"{node.name} has published", able, "publish", node)
        if way == ways.EMPTIED:
            self.empty_broker()
        elif way == ways.KILLED_PUBLISHED:
            raise Killed

    def empty_broker(self) -> None:
        """The broker loses everything: readers miss their groups, relays find no marker."""
        self.tell("broker", ways.EMPTIED, is_fault=True)
        self.broker.flush()
        self.broker.serial.clear()
        self.owed.clear()
        for node in self.nodes.values():
            if node.is_up:
                node.lose_groups()

    def go_on(self, node: Node, effect: Effect) -> None:
        """An effect runs to where it can be interrupted next."""

        def act() -> None:
            if effect.go_on():
                self._end(node, effect)

        self.with_(node, act)

    def _end(self, node: Node, effect: Effect) -> None:
        if effect in node.effects:
            node.effects.remove(effect)

    def begin(self, node: Node, started: Started) -> None:
        """An attempt was committed as begun: an effect goes on its way, a def handler runs now."""
        if started.handler is not None:
            node.effects.append(Effect(node, started))
            self.oracles.began(started.envelope)
            return
        try:
            node.run(started)
        except Unavailable:
            self.give_back(node, started.held.n)

    def give_back(self, node: Node, n: int) -> None:
        """The disk refused a step of an attempt: it is not counted, as in ``Effects``."""
        while True:
            node.does("gives an attempt back")
            try:
                node.release(n)
                return
            except Unavailable:
                continue

    def time_out(self, node: Node, effect: Effect) -> None:
        """An effect has taken too long."""
        self.tell(node.name, f"{said(effect.started.envelope)} took too long")

        def act() -> None:
            if effect.time_out():
                self._end(node, effect)

        self.with_(node, act)

    def acted(self, effect: Effect, name: str, key: Any) -> None:
        """The outside has acted."""
        self.tell(effect.node.name, f"acts outside: {name!r} for {said(effect.started.envelope)}")
        self.oracles.acted(effect.node, effect.started.envelope, name, key)

    def resource(self, name: str) -> Any:
        """What ``ctx.resource`` is in this run."""
        if name not in self.resources:
            self.resources[name] = resource(self.cast.registry.participants[name])
        return self.resources[name]

    def tell(self, who: str, what: str, is_fault: bool = False) -> None:
        """A line of the story."""
        self.story.append(Told(self.clock.at - START, who, what, is_fault))
