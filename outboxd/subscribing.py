"""Subscriptions: who reads whose events, agreed by messages that travel like all others.

The subscriber sends ``subscribe`` to the publisher; the publisher adds a row, so that from now on
it keeps its events until this subscriber holds them too, and answers from which number on. Only
then does the subscriber read the events' stream.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from .batch import Batch
from .errors import Refused
from .message import Envelope, decode_data, encode_raw, events_stream, in_stream
from .registry import Registry
from .store import outbox, subscriber
from .store.connection import Connection
from .store.inbox import Sender

FIRST_SEEN = -1
"""``accepted`` of a subscription that begins with what the stream still has."""


class Subscribe(msgspec.Struct, frozen=True):
    """Data of ``subscribe``: from where."""

    since: str


class Subscribed(msgspec.Struct, frozen=True):
    """Data of ``subscribed``: the publisher's epoch and last number at that moment.

    The subscriber begins after it, or if ``is_retained`` with what the stream still has.
    """

    epoch: int
    since: int
    is_retained: bool = False


class Subscribing:
    """The subscriptions of one participant, in both roles."""

    def __init__(self, participant: str, registry: Registry) -> None:
        self.name = participant
        self.subscribers: list[str] = []
        self._registry = registry

    def reload(self, connection: Connection) -> None:
        self.subscribers = subscriber.names(connection)

    def ask(self, batch: Batch, local: Collection[str]) -> None:
        """Asks every publisher that is not ``local``, at each start: it may have removed us.

        Not again while the last question is in the outbox, which does not lose it.
        """
        for publisher, since in self._registry.subscriptions(self.name).items():
            message_id = f"{self.name}>{publisher}"
            stream = in_stream(publisher)
            if publisher in local or outbox.has(batch.connection, stream, message_id):
                continue
            self._send(batch, publisher, "subscribe", message_id, Subscribe(since))

    def unconfirmed(self, senders: dict[tuple[str, str], Sender]) -> list[str]:
        """Publishers that have not yet confirmed."""
        wanted = self._registry.subscriptions(self.name)
        return [name for name in wanted if (name, "events") not in senders]

    def on_subscribe(
        self, batch: Batch, envelope: Envelope, last: dict[str, int], epoch: int
    ) -> None:
        """As a publisher: somebody of another process subscribes."""
        asked = decode_data(envelope.data, Subscribe)
        said = self.enrol(batch, envelope.source, asked.since, last, epoch)
        self._send(batch, envelope.source, "subscribed", f"{envelope.id}:subscribed", said)

    def enrol(
        self, batch: Batch, name: str, since: str, last: dict[str, int], epoch: int
    ) -> Subscribed:
        """As a publisher: keep events for this subscriber from now on."""
        number = last.get(events_stream(self.name), 0)
        is_retained = since == "retained"
        kept = subscriber.add(
            batch.connection, name, -number - 1 if is_retained else number, batch.now
        )
        if name not in self.subscribers:
            self.subscribers = [*self.subscribers, name]
        return Subscribed(epoch, -kept - 1 if kept < 0 else kept, kept < 0)

    def remove(self, batch: Batch, name: str) -> str:
        """As a publisher: an operator says that a subscriber is gone for good.

        If it comes back it subscribes anew, and misses what was published in between. Raises
        Refused for one that this process hosts.
        """
        if self.name in self._registry.subscriptions(name):
            raise Refused(
                f"{name} is hosted here, and subscribes to the events of {self.name}",
                hint="run outboxd without it first",
            )
        was_there = subscriber.remove(batch.connection, name)
        self.subscribers = [kept for kept in self.subscribers if kept != name]
        batch.outcome.removed.append(name)  # its group goes in any case: a second try heals it
        if not was_there:
            return f"{name} did not subscribe to the events of {self.name}"
        return f"{name} subscribes to the events of {self.name} no more"

    def on_subscribed(
        self, batch: Batch, envelope: Envelope, senders: dict[tuple[str, str], Sender]
    ) -> None:
        """As a subscriber: another process has confirmed."""
        self.follow(batch, envelope.source, decode_data(envelope.data, Subscribed), senders)

    def follow(
        self,
        batch: Batch,
        publisher: str,
        said: Subscribed,
        senders: dict[tuple[str, str], Sender],
    ) -> None:
        """As a subscriber: the events' numbers begin here."""
        key = (publisher, "events")
        row = senders.get(key)
        if row is None:
            accepted = FIRST_SEEN if said.is_retained else said.since
            senders[key] = Sender(said.epoch, said.since, accepted, 0)
        elif row.epoch == said.epoch and row.accepted < said.since:
            # An operator had removed us, and what came meanwhile was not kept for us.
            missed = said.since - row.accepted
            row.since, row.accepted = row.since + missed, said.since
            batch.note("subscription_began_anew", publisher=publisher, missed=missed)
        batch.touched.add(key)

    def expects(self, row: Sender | None, envelope: Envelope) -> bool:
        """Whether an event may be taken.

        A subscription from what is retained begins with the first that the stream still has, but
        never after what was published since it was made: that is owed in any case.
        """
        if row is None:
            return False
        if row.accepted == FIRST_SEEN:
            row.accepted = row.since = min(envelope.seq - 1, row.since)
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
