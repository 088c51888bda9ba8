"""Who plays: the participants of one exploration, with prepared databases for run after run."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from outboxd.clock import utc
from outboxd.delivery import Delivery
from outboxd.errors import ConfigError
from outboxd.message import Envelope, Event, Message, encode_raw, key_of
from outboxd.participant import Db, HandlerSpec, InvariantSpec, ScheduleSpec
from outboxd.registry import Registry
from outboxd.store import meta, schema
from outboxd.store.connection import Connection, open_memory

from . import image
from .broker import Feed, VirtualClock
from .node import feeds_of

if TYPE_CHECKING:
    from .world import World

START = 1_800_000_000.0
"""When every run begins (UTC seconds)."""


class Check(msgspec.Struct, frozen=True):
    """An invariant, ready to be asked. ``reads``: the databases that it was seen to read."""

    participant: str
    spec: InvariantSpec
    db: Db
    reads: set[str]


class Cast:
    """The participants of an exploration. One run at a time: ``world`` is the present one.

    Raises ConfigError where the participants cannot be hosted together.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.world: World | None = None
        self.connections: dict[str, Connection] = {}
        self.feeds: dict[str, list[Feed]] = {}
        self.readers: dict[str, list[Feed]] = defaultdict(list)
        self._spec_of: dict[tuple[str, str], HandlerSpec] = {}
        for key, handler in list(registry.handlers.items()):
            self._spec_of[key] = handler.spec
            if not handler.is_effect:
                played = msgspec.structs.replace(
                    handler.spec, fn=self._played(key[0], handler.spec)
                )
                registry.handlers[key] = msgspec.structs.replace(handler, spec=played)
        self._schedules = {name: dict(plans) for name, plans in registry.schedules.items()}
        for owner, plans in registry.schedules.items():
            for name, plan in plans.items():
                plans[name] = msgspec.structs.replace(plan, fn=self._played(owner, plan))
        for name in registry.participants:
            self.connections[name] = self._prepared(name)
        self._subscribe()
        for connection in self.connections.values():
            connection.execute("COMMIT")
        self.checks = [
            self._check(name, spec)
            for name, owner in registry.participants.items()
            for spec in owner.invariants
        ]
        self.images = {name: image.statement(cx) for name, cx in self.connections.items()}

    def close(self) -> None:
        """Closes the databases and gives the handlers and schedules back."""
        for key, spec in self._spec_of.items():
            handler = self.registry.handlers[key]
            self.registry.handlers[key] = msgspec.structs.replace(handler, spec=spec)
        for name, plans in self._schedules.items():
            self.registry.schedules[name].update(plans)
        for connection in self.connections.values():
            connection.close()

    def start_of(self, message: Message, number: int) -> tuple[str, Envelope]:
        """(who takes it, the envelope) of a message that starts a saga.

        Raises ConfigError if no hosted participant takes it.
        """
        name = type(message).__name__
        owner = self.registry.owner(name)
        if owner is None:
            kinds = [kind for kind in self.registry.sagas.values() if kind.type_name == name]
            owner = kinds[0].participant if kinds else None
        if owner is None:
            raise ConfigError(
                f"no hosted participant starts anything on {name}",
                hint="name its plugin, or give another example",
            )
        return owner, Envelope(
            specversion="1.0",
            id=f"start-{number}",
            type=name,
            source="prove",
            time=utc(START),
            subject=key_of(message),
            data=encode_raw(message),
            kind="event" if isinstance(message, Event) else "command",
            schemaversion=message.__outboxd__.version,
        )

    def checks_after(self, name: str) -> list[Check]:
        """The invariants that a commit of ``name`` may break."""
        return [c for c in self.checks if c.spec.when == "always" and name in c.reads]

    def _check(self, name: str, spec: InvariantSpec) -> Check:
        reads = {name}

        def other(wanted: str) -> Connection:
            reads.add(wanted)
            if wanted not in self.connections:
                raise ConfigError(f"the participant {wanted} is not hosted here")
            return self.connections[wanted]

        return Check(name, spec, Db(self.connections[name], other), reads)

    def _prepared(self, name: str) -> Connection:
        connection = open_memory()
        connection.execute("PRAGMA foreign_keys = 1")
        owner = self.registry.participants[name]
        connection.execute("BEGIN")
        schema.migrate_own(connection)
        scripts = schema.participant_scripts(name, owner.folder, owner.schema, owner.migrations)
        schema.migrate_participant(connection, name, scripts)
        meta.put(connection, "store_id", f"store-{name}")
        meta.put(connection, "epoch", int(START * 1000))
        return connection

    def _subscribe(self) -> None:
        """As ``Hosted.subscribe_locally``: both sides are written before anything starts.

        Schedules begin then, too.
        """
        clock = VirtualClock(START)
        deliveries = {
            name: Delivery(name, self.registry, clock, lambda: 0.5) for name in self.connections
        }
        for name, connection in self.connections.items():
            deliveries[name].firing.opened(connection, START)
            publishers = []
            for publisher, since in self.registry.subscriptions(name).items():
                if publisher not in deliveries:
                    continue
                theirs = self.connections[publisher]
                said = deliveries[publisher].enrol(theirs, name, since)
                deliveries[name].follow(connection, publisher, said)
                publishers.append(publisher)
            self.feeds[name] = feeds_of(name, publishers)
            for feed in self.feeds[name]:
                self.readers[feed.stream].append(feed)

    def _played(self, participant: str, spec: HandlerSpec | ScheduleSpec) -> Any:
        def play(tx: Any, *message: Any) -> Any:
            world = self.world
            assert world is not None
            return world.nature.handle(participant, lambda: spec.fn(tx, *message))

        play.__name__ = spec.fn.__name__
        return play


def examples_of(registry: Registry) -> list[Message]:
    """What the hosted participants declare as messages that start their sagas."""
    return [m for owner in registry.participants.values() for m in owner.examples]
