"""One participant's process in the simulator: the real services, moved step by step.

Delivery, relay, consumer and the durable steps of effects are the code that runs in production.
None of it waits here: a coroutine that comes to an end at once is simply driven to it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from outboxd.batch import NEVER, Batch, Outcome, Started
from outboxd.committer import Committer
from outboxd.consumer import COUNT, Consumer
from outboxd.delivery import Delivery
from outboxd.effects import Steps
from outboxd.message import Envelope, decode_envelope, events_stream, in_stream
from outboxd.quarantine import Quarantine
from outboxd.relay import SETTLE_S, Relay
from outboxd.retry import PATIENT_BUDGET_S
from outboxd.store import meta
from outboxd.store.connection import Connection
from outboxd.store.control import Request
from outboxd.store.inbox import Held
from outboxd.tx import Step as StepOf
from outboxd.tx import Tx

from .broker import Feed
from .firings import SimFiring
from .store import MemoryDatabase

if TYPE_CHECKING:
    from .effect import Effect
    from .world import World

T = TypeVar("T")

_LATER = f"""
SELECT MIN(at) FROM (
    SELECT due_at AS at FROM outboxd_call UNION ALL
    SELECT due_at FROM outboxd_inbox UNION ALL
    SELECT due_at FROM outboxd_delayed UNION ALL
    SELECT at + {PATIENT_BUDGET_S} FROM outboxd_undo WHERE state = 'sent'
) WHERE at > ?
"""


def driven(coroutine: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise RuntimeError("a service waited for something that the simulator does not have")


class SimDelivery(Delivery):
    """Delivery that tells which messages were carried out, as their transaction ends them."""

    node: Node

    def done(self, batch: Batch, held: Held) -> None:
        super().done(batch, held)
        self.node.ended.append(held.id)

    def tx(self, batch: Batch, envelope: Envelope, attempt: int, step: StepOf | None) -> Tx:
        self.node.handles = envelope
        return super().tx(batch, envelope, attempt, step)

    def lose_memory(self) -> None:
        """It is made anew from the database before the next batch."""
        self._is_stale = True


class Node:
    """One participant. ``due_at`` (UTC seconds): when something held, or a timer, falls due."""

    def __init__(self, world: World, name: str, connection: Connection) -> None:
        self.world = world
        self.name = name
        self.connection = connection
        self.database = MemoryDatabase(name, connection, self)
        self.is_up = False
        self.was_killed = False
        self.was_stopped = False
        self.due_at = NEVER
        self.has_suspects = False
        self.is_unpublished = False
        self.is_behind = False
        self.to_heal: list[Consumer] = []
        self.has_fake = world.cast.registry.participants[name].faked is not None
        self.has_schedules = bool(world.cast.registry.schedules.get(name))
        self.has_sagas = any(owner == name for owner, _ in world.cast.registry.sagas)
        self.effects: list[Effect] = []
        self.ran: dict[str, Envelope] = {}
        self.ended: list[str] = []
        self.doing = ""
        self.cause: Envelope | None = None
        self.handles: Envelope | None = None
        self._image = (-1, 0)

    # Its life.

    def start(self) -> None:
        """Comes up, if it is not: new memory over the same database."""
        if self.is_up:
            return
        world = self.world
        self.is_up = True
        self.delivery = SimDelivery(
            self.name,
            world.cast.registry,
            world.clock,
            lambda: 0.5,
            rollbacks=lambda: self.database.rollbacks,
        )
        self.delivery.node = self
        registry = world.cast.registry
        self.delivery.firing = SimFiring(self.name, registry, world.most_firings)
        committer = Committer(self.name, self.database)  # type: ignore[arg-type]  # same face
        self.committer = committer
        self.relay = Relay(self.delivery, committer, world.broker, world.clock)
        committer.after[:] = [self.relay.offer, self._hear]
        self.does("starts")
        if self.was_killed:
            self._open()
            self.due_at = world.clock.at
        driven(self.relay.open(self._write(lambda cx: meta.identity(cx, world.clock.at))))
        self.is_unpublished = any(p.published < p.last for p in self.relay.progress.values())
        self.consumers = {
            feed: Consumer(
                feed.stream,
                self.delivery,
                committer,
                world.broker,
                "sim",
                world.clock,
                are_suspect=self.was_killed,
                cut_at=world.clock.at if self.was_killed else None,
                quarantine=Quarantine(),
                on_outage=lambda error: None,
                count=1,
            )
            for feed in world.cast.feeds[self.name]
        }
        self.is_behind, self.was_killed, self.was_stopped = self.was_killed, False, False
        for consumer in self.consumers.values():
            consumer.is_caught_up = not self.is_behind
        self.has_suspects = self.delivery.holding.lanes.suspect() is not None
        self.to_heal = list(self.consumers.values())
        self.heal()

    def _open(self) -> None:
        """The first transaction after a kill; if it fails, the start has failed."""
        try:
            self._write(lambda cx: self.delivery.opened(cx, was_clean=False))
        except BaseException:
            self.kill()
            raise

    def heal(self) -> None:
        """Finds its groups, says what it holds, takes what it had read before."""
        self.does("looks at what it had read")
        while self.to_heal:
            driven(self.to_heal[0].heal())
            driven(self.to_heal[0].drain_own())
            self.to_heal.pop(0)

    def lose_broker(self) -> None:
        """Broker or disk was away."""
        self.relay.lost()
        self.is_unpublished = any(p.published < p.last for p in self.relay.progress.values())
        self.lose_groups()

    def lose_groups(self) -> None:
        """The broker does not know its readers any more."""
        self.to_heal = list(self.consumers.values())

    def kill(self) -> None:
        """kill -9: what is in memory is gone, effects stop where they are."""
        self.forget()
        self.was_killed = True

    def restart(self) -> None:
        """A clean stop: running effects are given back, then memory goes."""
        for effect in self.effects:
            self.release(effect.n)
        self.forget()
        self.was_stopped = True
        self.due_at = self.world.clock.at

    def forget(self) -> None:
        """What is in memory goes."""
        for effect in self.effects:
            effect.close()
        self.effects.clear()
        self.to_heal.clear()
        self.rolled_back()
        self._image = (-1, 0)
        if self.is_up:
            self.delivery.conductor.book.forget_all()
        self.is_up = False

    # What it does.

    def does(self, what: str, cause: Envelope | None = None) -> None:
        """What the next commit is about, and because of which message."""
        self.doing, self.cause = what, cause

    def submit(self, envelope: Envelope) -> None:
        self.does(f"takes {envelope.type} from outside", envelope)
        self._commit(lambda cx: self.delivery.submit(cx, [envelope]))

    def take(self, feed: Feed, body: bytes, *, is_alone: bool) -> None:
        """Reads the next entry of ``feed``, or all there are, commits, acks."""
        envelope = decode_envelope(body)
        self.does(f"takes {said(envelope)}", envelope)
        consumer = self.consumers[feed]
        consumer.count = 1 if is_alone else COUNT
        try:
            driven(consumer.read_new())
        finally:
            consumer.count = 1

    def catch_up(self) -> None:
        """Finds its streams read to their ends."""
        for feed, consumer in self.consumers.items():
            if not consumer.is_caught_up and self.world.broker.head(feed) is None:
                self.does("has read to the end of its stream")
                driven(consumer.read_new())
        self.is_behind = not all(c.is_caught_up for c in self.consumers.values())

    def publish(self) -> None:
        self.does("publishes")
        self.is_unpublished = driven(self.relay.work()) and self.is_unpublished
        self.is_unpublished = any(p.published < p.last for p in self.relay.progress.values())

    def watch(self) -> None:
        """Asks the broker what its receivers hold."""
        self.does("hears what is held of what it sent")
        driven(self.relay.watch())
        self.is_unpublished = any(p.published < p.last for p in self.relay.progress.values())

    def fall_due(self) -> None:
        """Begins what is due, then fires timers."""
        self.due_at = NEVER
        self.does("tries again what is due")
        begun = self._commit(lambda cx: self.delivery.begin(cx, 200))
        self.does("looks at its timers")
        own = self.consumers[Feed(in_stream(self.name), self.name)]
        sleeps_only = not own.is_caught_up
        fired = self._commit(lambda cx: self.delivery.timers(cx, sleeps_only=sleeps_only))
        self.due_at = min(self.due_at, begun.wake_at, fired.wake_at)
        if sleeps_only:
            self.due_at = max(self.due_at, self._looks_again_at(own.source))

    def _looks_again_at(self, stream: str) -> float:
        """Deadlines wait for its reader: soon, or once that is back; what else is due does not."""
        now = self.world.clock.at
        back_at = self.world.away.get(Feed(stream, self.name))
        if back_at is None:
            return now + 0.05
        later: float | None = self.rows(_LATER, now)[0][0]
        return back_at if later is None else min(back_at, later)

    def fire(self, schedule: str) -> None:
        """A schedule's first firing comes now, not later."""
        sql = "UPDATE outboxd_schedule SET due_at = ? WHERE name = ?"
        self.connection.execute(sql, (self.world.clock.at, schedule))
        self.fall_due()

    def examine_suspect(self) -> None:
        """After a kill: one suspect, its attempt committed before it runs."""
        self.does("examines a suspect")
        outcome = self._commit(lambda cx: self.delivery.begin(cx, 1, suspects=True))
        self.has_suspects = outcome.has_suspects

    def run(self, started: Started) -> None:
        """A further attempt of a def handler or of a saga."""
        self.does(f"tries {said(started.envelope)} again", started.envelope)
        self._commit(lambda cx: self.delivery.run(cx, started.held.n))

    def release(self, n: int) -> None:
        self._commit(lambda cx: self.delivery.release(cx, n))

    def apply(self, request: Request) -> None:
        """An operator's request. Raises Refused."""
        self.does(f"applies {request.kind} {request.target}".rstrip())
        self._commit(lambda cx: self.delivery.apply(cx, request))

    def steps(self, started: Started) -> Steps:
        return SimSteps(self, started)

    def _hear(self, outcome: Outcome) -> None:
        self.due_at = min(self.due_at, outcome.wake_at)
        self.has_suspects = outcome.has_suspects
        self.is_unpublished = self.is_unpublished or bool(outcome.rows)
        self.world.nature.heard(self, outcome)
        for started in outcome.started:
            self.world.begin(self, started)

    def _commit(self, work: Callable[[Connection], Outcome]) -> Outcome:
        return driven(self.committer.commit(work))

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self.database.transact(work)

    # What MemoryDatabase asks.

    def before_commit(self) -> str | None:
        return self.world.nature.before_commit(self)

    def after_commit(self) -> None:
        self.world.oracles.committed(self)

    def rolled_back(self) -> None:
        self.ended.clear()
        self.ran.clear()

    # What is known of it without its help.

    @property
    def is_settled(self) -> bool:
        return not self.is_up or self.relay.is_settled

    def numbers(self) -> tuple[tuple[int, int], ...]:
        """How far its streams are held and published."""
        return tuple((p.accepted, p.published) for p in self.relay.progress.values())

    @property
    def fires_at(self) -> float:
        """When the next of its schedules falls due, also before its first start."""
        if not self.has_schedules:
            return NEVER
        due: float | None = self.rows("SELECT MIN(due_at) FROM outboxd_schedule")[0][0]
        return NEVER if due is None else due

    def unfired(self) -> list[str]:
        """Its schedules that have not fired yet, and may do so at any moment."""
        if not self.has_schedules or self.world.most_firings is None:
            return []
        sql = "SELECT name FROM outboxd_schedule WHERE fired = 0 AND due_at > ?"
        return [name for (name,) in self.rows(sql, self.world.clock.at)]

    def looks_at(self) -> float:
        """When its relay finds that the end of a stream was lost, or deletes what is settled."""
        if not self.is_up or self.relay.is_settled:
            return NEVER
        broker = self.world.broker
        lost = [
            progress.moved_at + progress.quiet_s
            for stream, progress in self.relay.progress.items()
            if not progress.is_settled
            and all(broker.head(feed) is None for feed in self.world.cast.readers[stream])
        ]
        soon = self.world.clock.at + SETTLE_S
        if not lost:
            return soon if all(p.is_settled for p in self.relay.progress.values()) else NEVER
        return max(soon, min(lost))

    def rows(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, args).fetchall()

    def image(self, of_all: str) -> int:
        """A number for all of its rows, worked out again only after a change."""
        changes = self.connection.total_changes
        if self._image[0] != changes:
            self._image = (changes, hash(self.rows(of_all)[0]))
        return self._image[1]


class SimSteps(Steps):
    """Steps that tell when the transaction of an effect has done its work."""

    def __init__(self, node: Node, started: Started) -> None:
        super().__init__(started, node.delivery, node.committer)
        self._node = node
        self._envelope = started.envelope

    async def commit(self, fn: Callable[[Tx], Any]) -> Any:
        node, envelope = self._node, self._envelope

        def work(tx: Tx) -> Any:
            value = fn(tx)
            node.ran[envelope.id] = envelope
            node.world.nature.returned(envelope, value)
            return value

        node.does(f"commits what {said(envelope)} learned", envelope)
        return await super().commit(work)

    async def failed(self, error: Exception) -> None:
        self._node.does(f"notes that {said(self._envelope)} failed", self._envelope)
        await super().failed(error)


def said(envelope: Envelope) -> str:
    """A message in a few words."""
    match envelope.kind:
        case "reply":
            return f"the answer {envelope.outcome!r} to {envelope.type}"
        case "undo":
            return f"{envelope.type} (undo of {envelope.undoes})"
        case "every":
            return f"the schedule {envelope.type}"
        case "close":
            return f"the closing of {envelope.undoes}"
        case _:
            return f"{envelope.type} {envelope.subject or ''}".rstrip()


def feeds_of(name: str, publishers: list[str]) -> list[Feed]:
    """Its own stream, and the events of those it subscribes to."""
    own = Feed(in_stream(name), name)
    return [own, *(Feed(events_stream(publisher), name) for publisher in publishers)]
