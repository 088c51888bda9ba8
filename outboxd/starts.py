"""An application's messages → their participants; a command → the saga that it has begun.

Each is durable once it is submitted. Which saga a start belongs to is known when its turn comes: at
once, unless it is held, as in a process that follows a crash, or behind another of its key. Until
then the same message is submitted again: that changes nothing, and is answered with what came of
it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import msgspec

from .batch import Outcome
from .clock import Clock, utc
from .errors import NotFound, Refused
from .hosted import Hosted
from .message import Command, Envelope, Event, Message, encode_raw, key_of
from .registry import Registry

FIRST_LOOK_S = 0.01
LOOK_S = 0.5


class Wanted(msgspec.Struct, frozen=True):
    """One start. ``expected``: the saga that it can only belong to, or None if that is open."""

    owner: str
    name: str
    expected: str | None
    envelope: Envelope


class Starts:
    """Starts sagas of the hosted participants, and sends them messages."""

    def __init__(self, hosted: Mapping[str, Hosted], registry: Registry, clock: Clock) -> None:
        self._hosted = hosted
        self._registry = registry
        self._clock = clock

    async def send(self, message: Message, message_id: str | None) -> str:
        """See ``Runtime.send``."""
        name, spec = type(message).__name__, message.__outboxd__
        owner = spec.source if isinstance(message, Event) else self._registry.owner(name)
        if owner is None or owner not in self._hosted:
            whose = spec.source or spec.to
            raise NotFound(
                f"{name} belongs to {whose}, and nobody takes it here",
                hint=f"host {whose} in this process, or let a participant send it",
            )
        envelope = self._envelope(message, owner, message_id or f"sent-{uuid.uuid4().hex}")
        outcome = await self._hosted[owner].submit([envelope])
        if envelope.id in outcome.refused:
            raise Refused(outcome.refused[envelope.id])
        return envelope.id

    def to_start(self, command: Command[Any], message_id: str | None) -> Wanted:
        """Raises NotFound if no hosted participant starts a saga on it."""
        name = type(command).__name__
        owner = self._registry.owner(name)
        kind = None if owner is None else self._registry.saga_started_by(owner, name)
        if owner is None or kind is None:
            raise NotFound(f"no hosted participant starts a saga on {name}")
        envelope = self._envelope(command, owner, message_id or f"start-{uuid.uuid4().hex}")
        beginning = self._hosted[owner].delivery.conductor.beginning
        saga_id = beginning.id_of(kind, envelope.subject or "")
        expected = saga_id if kind.spec.again == "first" else None
        return Wanted(owner, saga_id, expected, envelope)

    async def begin(self, wanted: Sequence[Wanted]) -> list[str]:
        """The sagas' ids, in the order of the starts; those of one participant in one transaction.

        Raises Refused if one of them begins none, and belongs to none that has begun.
        """
        found: dict[str, str] = {}
        left, pause_s = list(wanted), FIRST_LOOK_S
        while True:
            for owner in dict.fromkeys(start.owner for start in left):
                mine = [start for start in left if start.owner == owner]
                outcome = await self._hosted[owner].submit([start.envelope for start in mine])
                found |= {start.envelope.id: saga_id for start, saga_id in _begun(mine, outcome)}
            left = [start for start in left if start.envelope.id not in found]
            if not left:
                return [found[start.envelope.id] for start in wanted]
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, LOOK_S)

    def _envelope(self, message: Message, owner: str, message_id: str) -> Envelope:
        is_event = isinstance(message, Event)
        return Envelope(
            specversion="1.0",
            id=message_id,
            type=type(message).__name__,
            source=owner if is_event else "runtime",
            time=utc(self._clock.now()),
            subject=key_of(message),
            data=encode_raw(message),
            kind="event" if is_event else "command",
            correlationid=message_id,
            schemaversion=message.__outboxd__.version,
        )


def _begun(starts: Sequence[Wanted], outcome: Outcome) -> list[tuple[Wanted, str]]:
    begun: list[tuple[Wanted, str]] = []
    for start in starts:
        message_id = start.envelope.id
        if message_id in outcome.refused:
            raise Refused(outcome.refused[message_id])
        saga_id = outcome.sagas.get(message_id, start.expected or "")
        if saga_id is None:
            raise Refused(f"{start.name} was started before")
        if saga_id:
            begun.append((start, saga_id))
    return begun
