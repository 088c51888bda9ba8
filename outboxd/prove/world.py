"""One run: the participants, a broker, time, and whatever may go wrong between them.

Without failures it is the usual course: what was committed is published, the oldest entry is
delivered next, time passes when nothing else is left to do. Wherever something could go otherwise
the chooser is asked. When all is quiet the operator comes and replays what died, as after a fix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import msgspec
from msgspec import UNSET

from outboxd.batch import NEVER, Outcome, Started
from outboxd.errors import Refused, Reject, Unavailable
from outboxd.message import Envelope, decode_envelope, encode, in_stream
from outboxd.plugins import line_of
from outboxd.saga import where
from outboxd.stream import NoGroup

from . import effect as effects
from .broker import Feed, SimStream, VirtualClock
from .cast import START, Cast
from .choices import ORDER, Chooser, Kind, Point
from .effect import Effect
from .fakes import resource
from .guard import OutsideTouched
from .node import Node, said
from .operator import Operator
from .oracles import Oracles, Violated
from .store import Killed

KILLED = "the process is killed before the commit"
REFUSED = "the disk refuses the commit"
KILLED_AFTER = "the process is killed after the commit"
BY_STREAM = "puts it into the stream, without numbers"
TWICE = "it stands there twice"
AWAY = "its reader is away until the next deadline has passed"
TOGETHER = "it is read in one batch with what follows"
LOST = "a stranger deletes it from the stream"
RAISES = "its handler fails once"
POISON = "its handler fails until somebody fixes it"
REJECTS = "its handler says no"
KILLED_PUBLISHED = "the process is killed after it published"
EMPTIED = "the broker loses everything"

_FATES = {KILLED: "killed", REFUSED: "refused", KILLED_AFTER: "killed after"}

FIXED_AFTER_S = 3600.0
HORIZON_S = 30 * 86_400.0


class Injected(Exception):
    """A failure that the schedule asked for."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """One line of a run's story. ``at``: virtual seconds since its start."""

    at: float
    who: str
    what: str
    is_fault: bool = False


class World:
    """One run of ``starts`` (participant, envelope). ``horizon_s``: how long anything may last."""

    most_steps = 3_000

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
        self._starts = list(starts)
        self.resources: dict[str, Any] = {}
        self._horizon = START + horizon_s
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
            action = self._next()
            if action is not None:
                self._do(action)
            elif not self._let_time_pass(until) and (until is not None or not self.operator.look()):
                return
            self.checkpoint()

    # What is done next.

    def _next(self) -> Callable[[], None] | None:
        found = self._urgent()
        if found is not None:
            return found
        able = list(self._able())
        if len(able) > 1:
            others = tuple(f"{ORDER}{what()}" for what, _ in able[1:])
            way = self.chooser.choose(Point(f"what comes next: {able[0][0]()}", others, "next"))
            if way is not None:
                return able[1 + others.index(way)][1]
        if able:
            return able[0][1]
        for node in self.nodes.values():
            if node.is_up and not node.is_settled and not node.is_unpublished:
                before = node.numbers()
                self._do(self._of(node, node.watch))
                if not node.is_up or node.numbers() != before or node.is_unpublished:
                    return lambda: None
        return None

    def _urgent(self) -> Callable[[], None] | None:
        """What nobody could see the order of, in its usual one."""
        for node in self.nodes.values():
            if node.was_killed or node.was_stopped:
                return self._of(node, node.start)
            if node.to_heal:
                return self._of(node, node.heal)
            if node.is_unpublished:
                return self._of(node, lambda node=node: self._publish(node))  # type: ignore[misc]
            if node.has_suspects:
                return self._of(node, node.examine_suspect)
            if node.is_behind and node.is_up:
                ready = [f for f, c in node.consumers.items() if not c.is_caught_up]
                if all(self.broker.head(feed) is None for feed in ready):
                    return self._of(node, node.catch_up)
        return None

    def _able(self) -> Iterator[tuple[Callable[[], str], Callable[[], None]]]:
        """What may happen now, the usual first: starts, effects, deliveries, what is due."""
        if self._starts:
            name, envelope = self._starts[0]
            yield (
                lambda: f"{name} gets {said(envelope)}",
                lambda: self._start(name, envelope),
            )
        for node in self.nodes.values():
            for effect in node.effects:
                if effect.is_ready:
                    yield (
                        lambda n=node, e=effect: f"{n.name} goes on with {e}",  # type: ignore[misc]
                        lambda n=node, e=effect: self._go_on(n, e),  # type: ignore[misc]
                    )
        heads = [
            (head[0], node, feed, head[1])
            for node in self.nodes.values()
            for feed in self.cast.feeds[node.name]
            if feed not in self.away and (head := self.broker.head(feed)) is not None
        ]
        for _, node, feed, body in sorted(heads, key=lambda head: head[0]):
            yield (
                lambda n=node, b=body: f"{n.name} reads {said(decode_envelope(b))}",  # type: ignore[misc]
                lambda n=node, f=feed, b=body: self._deliver(n, f, b),  # type: ignore[misc]
            )
        for node in self.nodes.values():
            if node.is_up and node.due_at <= self.clock.at:
                yield (
                    lambda n=node: f"{n.name} looks at what is due",  # type: ignore[misc]
                    self._of(node, node.fall_due),
                )

    def _of(self, node: Node, act: Callable[[], None]) -> Callable[[], None]:
        def go() -> None:
            self.with_(node, act)

        return go

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

    def _do(self, action: Callable[[], None]) -> None:
        action()
        moved, self._moved = self._moved, []
        for node in moved:
            if node.is_up and self.oracles.has_moved(node):
                self.operator.intervene(node)

    # Actions.

    def _start(self, name: str, envelope: Envelope) -> None:
        self._starts.pop(0)
        node = self.nodes[name]
        if envelope.kind == "command" and envelope.id not in self.sent:
            what = f"{name} gets {said(envelope)} from outside"
            if self._choose(what, (BY_STREAM,), "start", node, envelope) is not None:
                self.tell("somebody", f"{BY_STREAM}: {said(envelope)}")
                self.owed.add((name, envelope.id))
                self.broker.put(in_stream(name), encode(envelope))
                return
        self.sent.add(envelope.id)
        self.tell(name, f"gets {said(envelope)} from outside")
        self.with_(node, lambda: node.submit(envelope))
        if node.was_killed or not self.oracles.has_started(node, envelope):
            self._starts.append((name, envelope))  # whoever sends got no answer, and tries again

    def _deliver(self, node: Node, feed: Feed, body: bytes) -> None:
        envelope = decode_envelope(body)
        what = f"{node.name} reads {said(envelope)}"
        ways: tuple[str, ...] = (TWICE, AWAY, LOST) if envelope.seq else (TWICE, AWAY)
        ways += (TOGETHER,) if self.broker.unread(feed) > 1 else ()
        way = self._choose(what, ways, "read", node, envelope)
        if way == AWAY:
            self.away[feed], away = self.away_until()
            self.tell(node.name, f"{away}, before {said(envelope)}", is_fault=True)
            return
        if way is not None:
            self.tell("broker", f"{said(envelope)} to {node.name}: {way}", is_fault=True)
        if way == LOST:
            self.broker.lose_head(feed)
            return
        if way == TWICE:
            self.broker.repeat(feed)
        self.tell(node.name, f"reads {said(envelope)}")
        self.with_(node, lambda: node.take(feed, body, is_alone=way != TOGETHER))

    def _publish(self, node: Node) -> None:
        node.publish()
        ways = (KILLED_PUBLISHED, EMPTIED)
        way = self._choose(f"{node.name} has published", ways, "publish", node)
        if way == EMPTIED:
            self.empty_broker()
        elif way == KILLED_PUBLISHED:
            raise Killed

    def empty_broker(self) -> None:
        """The broker loses everything: readers miss their groups, relays find no marker."""
        self.tell("broker", EMPTIED, is_fault=True)
        self.broker.flush()
        self.broker.serial.clear()
        self.owed.clear()
        for node in self.nodes.values():
            if node.is_up:
                node.lose_groups()

    def _go_on(self, node: Node, effect: Effect) -> None:
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

    # Time.

    def _let_time_pass(self, until: float | None) -> bool:
        """To the next moment at which something happens; False if there is none (before it)."""
        at = min(
            min((n.due_at for n in self.nodes.values() if n.is_up), default=NEVER),
            min(self.away.values(), default=NEVER),
            min((e.ends_at for n in self.nodes.values() for e in n.effects), default=NEVER),
            min((n.looks_at() for n in self.nodes.values()), default=NEVER),
        )
        if at == NEVER or (until is not None and at > until):
            self.clock.at = max(self.clock.at, until or 0.0)
            return False
        if at > self._horizon:
            raise Violated(
                f"nothing would happen before {(at - START) / 86400:.0f} days have passed",
                self.oracles.open_sagas(),
            )
        self.clock.at = max(self.clock.at, at)
        for feed in [f for f, back_at in self.away.items() if back_at <= self.clock.at]:
            del self.away[feed]
            self.tell(feed.reader, "is back")
        for node in self.nodes.values():
            for effect in list(node.effects):
                if effect.ends_at <= self.clock.at:
                    self._time_out(node, effect)
        return True

    def _time_out(self, node: Node, effect: Effect) -> None:
        self.tell(node.name, f"{said(effect.started.envelope)} took too long")

        def act() -> None:
            if effect.time_out():
                self._end(node, effect)

        self.with_(node, act)

    def away_until(self) -> tuple[float, str]:
        """When a reader is back, and how that is told: just after the next deadline."""
        found = [
            at
            for node in self.nodes.values()
            for (at,) in node.rows("SELECT MIN(due_at) FROM outboxd_call")
            if at is not None
        ]
        return min(found, default=self.clock.at + 60.0) + 1.0, AWAY

    # What the parts of a participant ask of the world.

    def handle(self, tx: Any, work: Callable[[], Any]) -> Any:
        """A def handler runs."""
        envelope: Envelope = tx._cause
        node = self.nodes[tx._sender]
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

    def returned(self, envelope: Envelope, value: Any) -> None:
        """A handler has done its work; its transaction is still to be committed."""

    def before_handler(self, node: Node, envelope: Envelope) -> Exception | None:
        """Raises what the schedule says, or returns what is to be raised after the work."""
        if self.poisoned.get(envelope.id, 0.0) > self.clock.at:
            raise Injected("simulated: it still fails")
        ways = (RAISES, POISON, REJECTS) if self.may_refuse(envelope) else (RAISES, POISON)
        way = self._choose(f"{node.name} handles {said(envelope)}", ways, "handle", node, envelope)
        if way is None:
            return None
        self.tell(node.name, f"{said(envelope)}: {way}", is_fault=True)
        if way == REJECTS:
            raise self.refusal()
        self.hurt.add(envelope.id)
        if way == POISON:
            self.poisoned[envelope.id] = self.clock.at + FIXED_AFTER_S
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

    def at_outside(self, effect: Effect, name: str) -> str | None:
        """How a call to the outside goes."""
        envelope = effect.started.envelope
        what = f"{effect.node.name} calls {name!r} for {said(envelope)}"
        way = self._choose(what, effects.WAYS, "outside", effect.node, envelope, name)
        if way is not None:
            self.hurt.add(envelope.id)
            self.tell(effect.node.name, f"{name!r} for {said(envelope)}: {way}", is_fault=True)
        return way

    def answer(self, effect: Effect, name: str) -> Any:
        """What a call to the outside returns; UNSET: what its fake does, or a made-up value."""
        return UNSET

    def acted(self, effect: Effect, name: str, key: Any) -> None:
        """The outside has acted."""
        self.tell(effect.node.name, f"acts outside: {name!r} for {said(effect.started.envelope)}")
        self.oracles.acted(effect.node, effect.started.envelope, name, key)

    def resource(self, name: str) -> Any:
        """What ``ctx.resource`` is in this run."""
        if name not in self.resources:
            self.resources[name] = resource(self.cast.registry.participants[name])
        return self.resources[name]

    def noted(self, node: Node, envelope: Envelope, error: Exception) -> None:
        """An error of a handler, told. Raises Violated if it will never be otherwise."""
        if isinstance(error, Reject):
            self.oracles.refused(envelope)
        elif not isinstance(error, (Injected, effects.OutsideFailed)):
            self.tell(node.name, f"raises {type(error).__name__}: {error}")
            self.oracles.failed(envelope, error)

    def heard(self, node: Node, outcome: Outcome) -> None:
        """What was committed, after the commit."""

    def before_commit(self, node: Node) -> str | None:
        """How the commit of ``node`` ends."""
        if not node.is_up:
            return None
        ways = (KILLED, REFUSED, KILLED_AFTER)
        way = self._choose(f"{node.name} {node.doing}", ways, "commit", node, node.cause)
        if way is None:
            return None
        self.tell(node.name, f"{node.doing}: {way}", is_fault=True)
        return _FATES[way]

    def committed(self, node: Node) -> None:
        self.oracles.committed(node)

    def _choose(
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
        return self.chooser.choose(Point(what, ways, kind, node.name, type_name, part, name))

    def tell(self, who: str, what: str, is_fault: bool = False) -> None:
        """A line of the story."""
        self.story.append(Told(self.clock.at - START, who, what, is_fault))
