"""Stream, feed or stranger → ours: each message is taken once, by its number or by its id.

Numbers need no memory of single messages; a producer without numbers is remembered id by id. What
is refused here is refused visibly, or kept by its sender.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from . import settle
from .batch import Batch
from .errors import Unrecoverable
from .holding import LOCAL_KEY
from .message import (
    UNTIMED,
    Envelope,
    Undecodable,
    decode_envelope,
    decode_message,
    encode,
    fingerprint,
    key_of,
)
from .retry import DAY_S
from .settle import Receipt
from .store import dead, inbox, journal
from .store.inbox import Sender
from .store.retention import KEEP_S

if TYPE_CHECKING:
    from .delivery import Delivery


class Arrival:
    """What comes to one participant. ``strangers``: senders of an unknown epoch, and that epoch."""

    def __init__(self, delivery: Delivery) -> None:
        self.strangers: dict[str, int] = {}
        self._delivery = delivery

    def take(self, batch: Batch, body: bytes, is_suspect: bool) -> None:
        """An entry of a stream: its number says whether it is new, old, or beyond a hole."""
        try:
            envelope = decode_envelope(body)
        except Undecodable as err:
            self._delivery.letters.bury_bytes(batch, body, err)
            return
        if not envelope.seq:
            self._take_stranger(batch, envelope, is_suspect)
            return
        key = (envelope.source, "events" if envelope.kind == "event" else "in")
        row = self._delivery.holding.senders.get(key)
        if key[1] == "events" and not self._delivery.subscribing.expects(row, envelope):
            return
        known = None if row is None else (row.epoch, row.accepted)
        receipt = settle.receive(known, envelope.epoch, envelope.seq)
        if receipt is Receipt.UNKNOWN_EPOCH:
            self.strangers[envelope.source] = envelope.epoch
            return
        if row is None:
            row = self._delivery.holding.senders[key] = Sender(envelope.epoch, 0, 0, 0)
        batch.touched.add(key)
        if receipt is Receipt.TAKE:
            row.accepted = envelope.seq
            batch.holes.pop(key, None)
            self._delivery.admit(batch, envelope, body, key, is_suspect)
        elif receipt is Receipt.HOLE:
            batch.holes[key] = True

    def _take_stranger(self, batch: Batch, envelope: Envelope, is_suspect: bool) -> None:
        """An entry without numbers."""
        changes: dict[str, Any] = {}
        if envelope.call is None:
            # A stranger's id is unique only for its source; here ids stand alone.
            changes["id"] = f"{envelope.source}/{envelope.id}"
        if envelope.time == UNTIMED:
            changes["time"] = batch.time
        envelope = msgspec.structs.replace(envelope, **changes)
        self.take_foreign(batch, envelope, encode(envelope), is_suspect)

    def is_next(self, envelope: Envelope) -> bool:
        """Whether an entry comes from a sender we know, and is not taken yet."""
        row = self._delivery.holding.senders.get((envelope.source, "in"))
        if row is None:
            return envelope.seq > 0
        return row.epoch == envelope.epoch and envelope.seq > row.accepted

    @property
    def problems(self) -> list[str]:
        """What a person should know, in sentences."""
        return [
            f"{self._delivery.name} holds back what {sender} sends: it speaks with another store; "
            f"`outboxd trust {sender}` if that is right"
            for sender in self.strangers
        ]

    def take_foreign(
        self, batch: Batch, envelope: Envelope, body: bytes, is_suspect: bool = False
    ) -> None:
        """A message without numbers: (source, id) is taken once, other content is refused."""
        source, mark = envelope.source, fingerprint(envelope.type, envelope.data)
        seen = inbox.seen_mark(batch.connection, source, envelope.id)
        if seen is None:
            inbox.see(batch.connection, source, envelope.id, mark, batch.now)
            if _said_at(envelope) < batch.time - timedelta(seconds=KEEP_S):
                self._refuse(batch, envelope, body, _too_old(envelope))
                return
            self._delivery.holding.count_local(batch)
            self._delivery.admit(batch, envelope, body, LOCAL_KEY, is_suspect)
            return
        other = f"{envelope.id}#{mark:08x}"
        if seen == mark:
            self._recall(batch, envelope)
            return
        if inbox.seen_mark(batch.connection, source, other) is not None:
            batch.outcome.refused[envelope.id] = _other_content(envelope)
            return
        inbox.see(batch.connection, source, other, mark, batch.now)
        self._refuse(batch, envelope, body, _other_content(envelope))

    def publish_foreign(self, batch: Batch, envelope: Envelope) -> None:
        """An event of ours that somebody outside publishes: (source, id) is published once."""
        source, mark = envelope.source, fingerprint(envelope.type, envelope.data)
        seen = inbox.seen_mark(batch.connection, source, envelope.id)
        if seen is None:
            inbox.see(batch.connection, source, envelope.id, mark, batch.now)
            batch.publish(envelope)
        elif seen != mark:
            batch.outcome.refused[envelope.id] = _other_content(envelope)

    def _recall(self, batch: Batch, envelope: Envelope) -> None:
        """It was taken before: what came of it is told again, if it starts a saga."""
        kind = self._delivery.routing.starts(envelope)
        if kind is None:
            return
        told = batch.outcome.sagas
        conductor = self._delivery.conductor
        try:
            key = key_of(decode_message(envelope, kind.message)) or ""
        except Exception:  # the same as the first time, when it became a letter
            batch.outcome.refused[envelope.id] = self._fate(batch, envelope)
            return
        live, is_its_own = conductor.beginning.found_by(batch, envelope, kind, key)
        if live is not None and (is_its_own or kind.spec.again == "first"):
            told[envelope.id] = live.row.id
            return
        held = inbox.by_id(batch.connection, envelope.id)
        if held is None and live is not None:
            own = journal.begun_by(batch.connection, kind.name, key, envelope.id)
            told[envelope.id] = None if kind.spec.again == "refuse" else own or live.row.id
        elif held is None:
            batch.outcome.refused[envelope.id] = self._fate(batch, envelope)
        elif (saga_id := inbox.stands_behind(batch.connection, held)) is not None:
            told[envelope.id] = None if kind.spec.again == "refuse" else saga_id

    def _fate(self, batch: Batch, envelope: Envelope) -> str:
        letter = dead.by_message(batch.connection, envelope.id)
        if letter is None:
            return f"{_short(envelope)} was handled before, and what it began is forgotten"
        return f"{_short(envelope)} is dead letter {self._delivery.name}/{letter.name}"

    def _refuse(self, batch: Batch, envelope: Envelope, body: bytes, why: str) -> None:
        """What is not taken is a dead letter at once."""
        batch.outcome.refused[envelope.id] = why
        self._delivery.holding.count_local(batch)
        held = self._delivery.holding.new(batch, envelope, body, LOCAL_KEY)
        self._delivery.letters.bury(batch, held, envelope, Unrecoverable(why))


def _said_at(envelope: Envelope) -> datetime:
    """When its producer says that it is from; without a zone it is taken for UTC."""
    at = envelope.time
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _too_old(envelope: Envelope) -> str:
    return (
        f"{_short(envelope)} of {envelope.source} is too old: it says that it is from "
        f"{envelope.time:%Y-%m-%d}, and ids are remembered for {KEEP_S / DAY_S:.0f} days, so that "
        "nobody knows whether it was handled before; replay it if it was not"
    )


def _other_content(envelope: Envelope) -> str:
    return f"{envelope.source} sent {_short(envelope)} before, with other content"


def _short(envelope: Envelope) -> str:
    """The id as its producer gave it."""
    return envelope.id.removeprefix(f"{envelope.source}/")
