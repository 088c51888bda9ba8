"""One participant, live: its database and the services around it, wired together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from anyio.abc import TaskGroup

from .batch import Outcome
from .clock import Clock
from .committer import Committer
from .consumer import Consumer
from .delivery import Delivery
from .effects import Effects
from .errors import Refused
from .lanes import RUNNING, WAITING
from .message import Envelope, events_stream, in_stream
from .participant import Participant
from .quarantine import Quarantine
from .registry import Registry
from .relay import Relay
from .scheduler import Scheduler
from .store import inbox, journal, meta, outbox, schema, timers
from .store.connection import Connection, Database
from .store.meta import Identity
from .store.retention import Pruned
from .stream import Stream

log = logging.getLogger("outboxd")


class Hosted:
    """A participant and everything that runs for it. ``problems``: what a person should know."""

    def __init__(
        self,
        participant: Participant,
        registry: Registry,
        data: Path,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.participant = participant
        self.name = participant.name
        self.database = Database(data / f"{participant.name}.db")
        self.delivery = Delivery(
            self.name,
            registry,
            clock,
            chance,
            rollbacks=lambda: self.database.rollbacks,
            beat=self.database.beat,
        )
        self.committer = Committer(self.name, self.database)
        self.identity = Identity("", 0)
        self.consumers: dict[str, Consumer] = {}
        self._clock = clock
        self._was_clean = True
        self._local: frozenset[str] = frozenset()
        self._alive_at = clock.now()

    async def open(self) -> None:
        """Opens and migrates the database. Raises ConfigError for a schema that does not apply."""
        await self.database.open()

    async def prepare(self) -> None:
        """The first transaction; the database's pump must run."""
        self.identity = await self.database.write(self._prepare)

    def _prepare(self, connection: Connection) -> Identity:
        owner = self.participant
        schema.migrate_own(connection)
        scripts = schema.participant_scripts(
            owner.name, owner.folder, owner.schema, owner.migrations
        )
        schema.migrate_participant(connection, owner.name, scripts)
        self._was_clean = meta.get(connection, "clean") != 0
        now = self._clock.now()
        self._alive_at = meta.get(connection, "alive_at") or now
        if self._alive_at > now:  # set back while nobody was here: no span gets longer by that
            timers.shift(connection, now - self._alive_at)
            meta.put(connection, "alive_at", now)
            self._alive_at = now
        meta.put(connection, "clean", 0)
        identity = meta.identity(connection, now)
        self.delivery.opened(connection, was_clean=self._was_clean)
        return identity

    async def subscribe_locally(self, others: Mapping[str, Hosted]) -> None:
        """Subscriptions within this process need no broker: both sides are written before a start.

        The publisher's first: it keeps its events for us from then on, whatever happens next.
        """
        self._local = frozenset(others)
        for name, since in self.delivery.registry.subscriptions(self.name).items():
            publisher = others.get(name)
            if publisher is None or self._is_subscribed_to(publisher):
                continue
            await self._subscribe_to(publisher, since)

    def _is_subscribed_to(self, publisher: Hosted) -> bool:
        """Whether both sides know it: an operator may have removed us at the publisher."""
        is_known = (publisher.name, "events") in self.delivery.holding.senders
        return is_known and self.name in publisher.delivery.subscribing.subscribers

    async def _subscribe_to(self, publisher: Hosted, since: str) -> None:
        said = await publisher.database.write(
            lambda cx: publisher.delivery.enrol(cx, self.name, since)
        )
        await self.database.write(lambda cx: self.delivery.follow(cx, publisher.name, said))

    async def claim(self, stream: Stream) -> None:
        """Binds the participant to this store on the broker. Raises Refused if another has it.

        A marker ahead of our numbers says that this store was restored from a backup: then its
        numbers were given out before, and a new epoch begins.
        """
        marker = await stream.marker(self.name)
        if marker is None:
            return
        if marker.store_id != self.identity.store_id:
            raise Refused(
                f"the participant {self.name} on this broker belongs to another data directory",
                hint="give each node its own participants, or its own broker",
            )
        given_out = sum((await self.database.read(outbox.last_numbers)).values())
        if marker.epoch == self.identity.epoch and marker.last > given_out:
            self.identity = await self.database.write(
                lambda cx: self.delivery.renew(cx, marker.epoch)
            )
            log.warning(
                "store_was_restored participant=%s epoch=%d: receivers hold what it sends until "
                "`outboxd trust %s`",
                self.name,
                self.identity.epoch,
                self.name,
            )

    def wire(self, stream: Stream, tasks: TaskGroup, quarantine: Quarantine) -> None:
        """Creates the services; nothing runs yet."""
        self._quarantine = quarantine
        quarantine.note(self.name, self.delivery.holding.lanes.suspect() is not None)
        self.relay = Relay(self.delivery, self.committer, stream, self._clock)
        self.effects = Effects(self.delivery, self.committer, tasks)
        self.scheduler = Scheduler(
            self.delivery,
            self.committer,
            self.effects,
            quarantine,
            self.may_time_out,
            self.heard_at,
        )
        self.committer.after += [self.relay.offer, self.effects.take, self.scheduler.hear]

    async def start(
        self, stream: Stream, node: str, tasks: TaskGroup, on_outage: Callable[[str | None], None]
    ) -> None:
        """Starts the relay and the reader of its own stream."""
        await self.relay.open(self.identity)
        tasks.start_soon(self.relay.run)
        self._read(in_stream(self.name), stream, node, tasks, on_outage)
        local = self._local
        await self.committer.commit(lambda cx: self.delivery.subscribe(cx, local))

    def read_events(self, stream: Stream, node: str, tasks: TaskGroup) -> bool:
        """Starts reading the events of each publisher that has confirmed the subscription.

        Returns whether one is still missing.
        """
        for sender, kind in list(self.delivery.holding.senders):
            source = events_stream(sender)
            if kind == "events" and source not in self.consumers:
                self._read(source, stream, node, tasks, lambda error: None)
        return bool(self.missing_subscriptions)

    def _read(
        self,
        source: str,
        stream: Stream,
        node: str,
        tasks: TaskGroup,
        on_outage: Callable[[str | None], None],
    ) -> None:
        consumer = Consumer(
            source,
            self.delivery,
            self.committer,
            stream,
            node,
            self._clock,
            are_suspect=not self._was_clean,
            cut_at=self._alive_at if source == in_stream(self.name) else None,
            quarantine=self._quarantine,
            on_outage=on_outage,
        )
        self.consumers[source] = consumer
        tasks.start_soon(consumer.run)

    async def submit(self, envelopes: Sequence[Envelope]) -> Outcome:
        """Takes messages from outside, durable when it returns."""
        await self._quarantine.until_clear()
        return await self.committer.commit(lambda cx: self.delivery.submit(cx, envelopes))

    async def prune(self, before: float) -> Pruned:
        """Removes a part of what ended before ``before`` (UTC seconds)."""
        return await self.database.write(lambda cx: self.delivery.prune(cx, before))

    async def has_saga(self, saga_id: str) -> bool:
        """Whether a saga has started here, or its start is held and tried again."""
        _, name, key = journal.named(saga_id)
        kind = self.delivery.registry.saga_named(self.name, name)

        def look(connection: Connection) -> bool:
            if journal.get_saga(connection, saga_id) is not None:
                return True
            return kind is not None and inbox.holds(connection, kind.type_name, key)

        return await self.database.read(look)

    async def has_delayed(self) -> bool:
        """Whether a message waits for its time to set out."""
        return await self.database.read(outbox.next_due) is not None

    async def close_cleanly(self) -> None:
        """After a clean stop nobody is suspect, and the time away is known exactly."""
        heard_at = self.heard_at()

        def note(connection: Connection) -> None:
            meta.put(connection, "clean", 1)
            meta.put(connection, "alive_at", heard_at)

        await self.database.write(note)

    def heard_at(self) -> float:
        """Until when (UTC seconds) answers could come: now, unless we are cut off."""
        own = self.consumers.get(in_stream(self.name))
        if own is None:
            return self._alive_at
        return self.delivery.clock.now() if own.cut_at is None else own.cut_at

    def may_time_out(self) -> bool:
        """Whether an answer to any call could have come."""
        own = self.consumers.get(in_stream(self.name))
        return own is not None and own.is_caught_up

    @property
    def problems(self) -> list[str]:
        """What a person should know, in sentences."""
        error = self.committer.error
        refused = [] if error is None else [f"{self.name} cannot write: {error}"]
        silent = self.relay.problems if self.is_wired else []
        return [*refused, *self.delivery.arrival.problems, *silent]

    @property
    def is_wired(self) -> bool:
        """Whether its services exist."""
        return hasattr(self, "effects")

    @property
    def missing_subscriptions(self) -> list[str]:
        """Publishers that have not confirmed yet."""
        return self.delivery.subscribing.unconfirmed(self.delivery.holding.senders)

    @property
    def is_idle(self) -> bool:
        """Nothing held but what waits for a person, nothing to publish, no saga under way."""
        lanes, tally = self.delivery.holding.lanes, self.delivery.conductor.book.tally
        return (
            lanes.count(WAITING) <= lanes.count_blocked()
            and not lanes.count(RUNNING)
            and not self.effects.running
            and not tally.running + tally.compensating
            and self.relay.is_settled
            and not self.missing_subscriptions
        )
