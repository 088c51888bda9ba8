"""Subscriptions: who reads whose events, agreed by messages that travel like all others.

The subscriber sends ``subscribe`` to the publisher; the publisher adds a row, so that from now on
it keeps its events until this subscriber holds them too, and answers from which number on. Only
then does the subscriber read the events' stream.
"""

from __future__ import annotations

import msgspec

from .batch import Batch
from .message import Envelope, decode_data, encode_raw, events_stream, in_stream
from .registry import Registry
from .store import meta, subscriber
from .store.connection import Connection
from .store.inbox import Sender

FIRST_SEEN = -1
"""``accepted`` of a subscription that begins with what the stream still has."""


class Subscribe(msgspec.Struct, frozen=True):
    """Data of ``subscribe``: from where."""

    since: str


class Subscribed(msgspec.Struct, frozen=True):
    """Data of ``subscribed``: the publisher's epoch and the number after which to begin."""

    epoch: int
    since: int


class Subscribing:
    """The subscriptions of one participant, in both roles."""

    def __init__(self, participant: str, registry: Registry) -> None:
        self.name = participant
        self.subscribers: list[str] = []
        self._registry = registry

    def reload(self, connection: Connection) -> None:
        self.subscribers = subscriber.names(connection)

    def ask(self, batch: Batch, senders: dict[tuple[str, str], Sender]) -> None:
        """Sends what is missing: once per publisher, for the outbox never loses it."""
        for publisher, since in self._registry.subscriptions(self.name).items():
            key = f"subscribe:{publisher}"
            if (publisher, "events") in senders or meta.get(batch.connection, key):
                continue
            meta.put(batch.connection, key, since)
            self._send(batch, publisher, "subscribe", f"{self.name}>{publisher}", Subscribe(since))

    def unconfirmed(self, senders: dict[tuple[str, str], Sender]) -> list[str]:
        """Publishers that have not yet confirmed."""
        wanted = self._registry.subscriptions(self.name)
        return [name for name in wanted if (name, "events") not in senders]

    def on_subscribe(
        self, batch: Batch, envelope: Envelope, last: dict[str, int], epoch: int
    ) -> None:
        """As a publisher: keep events for this subscriber from now on."""
        asked = decode_data(envelope.data, Subscribe)
        since = FIRST_SEEN if asked.since == "retained" else last.get(events_stream(self.name), 0)
        since = subscriber.add(batch.connection, envelope.source, since, batch.now)
        if envelope.source not in self.subscribers:
            self.subscribers = [*self.subscribers, envelope.source]
        said = Subscribed(epoch, since)
        self._send(batch, envelope.source, "subscribed", f"{envelope.id}:subscribed", said)

    def on_subscribed(
        self, batch: Batch, envelope: Envelope, senders: dict[tuple[str, str], Sender]
    ) -> None:
        """As a subscriber: the events' numbers begin here."""
        said = decode_data(envelope.data, Subscribed)
        key = (envelope.source, "events")
        if key not in senders:
            senders[key] = Sender(said.epoch, max(said.since, 0), said.since, 0)
        batch.touched.add(key)

    def expects(self, row: Sender | None, envelope: Envelope) -> bool:
        """Whether an event may be taken; a subscription from what is retained begins with it."""
        if row is None:
            return False
        if row.accepted == FIRST_SEEN:
            row.accepted = row.since = envelope.seq - 1
        return True

    def _send(
        self, batch: Batch, to: str, kind: str, message_id: str, data: msgspec.Struct
    ) -> None:
        batch.send(
            in_stream(to),
            Envelope(
                specversion="1.0",
                id=message_id,
                type=kind,
                source=self.name,
                time=batch.time,
                subject=kind,
                data=encode_raw(data),
                kind=kind,
            ),
        )
