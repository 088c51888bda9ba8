"""Messages that sagas receive: each goes to whoever waits for it, or is kept until somebody does.

An event goes to every saga that waits for it at that moment, a command to the one that waits the
longest. Whoever gets it is told by a message of its own, so that a bug in one saga's code holds up
no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from . import answering
from .batch import Batch
from .book import Live
from .message import Envelope, Event, Message, decode_data, decode_message, encode_raw
from .registry import SagaKind
from .store import early
from .store.early import Early
from .store.journal import CallRow

if TYPE_CHECKING:
    from .delivery import Delivery


class Received(msgspec.Struct, frozen=True):
    """What a saga is told: the message, and the key that it came with."""

    key: str
    data: msgspec.Raw


class Mail:
    """The messages that the sagas of one participant receive."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def post(self, batch: Batch, envelope: Envelope) -> bool:
        """Takes a message that sagas here receive; returns whether it was nobody else's.

        Raises Undecodable: a message that is none becomes a dead letter at once.
        """
        kinds = self._delivery.registry.receivers(self._delivery.name, envelope.type)
        if not kinds:
            return False
        message = self._delivery.registry.message(envelope.type)
        assert message is not None
        batch.posted.append(_of_today(envelope, message))
        if issubclass(message, Event):
            return False
        answering.conclude(batch, envelope, b"null")
        return True

    def hand_over(self, batch: Batch, envelope: Envelope) -> None:
        """A saga gets its message; if it waits no more, another wait may find it."""
        said = decode_data(envelope.data, Received)
        conductor = self._delivery.conductor
        if conductor.on_received(batch, envelope, bytes(said.data)):
            return
        live = conductor.book.find(batch, envelope.correlationid or "")
        if live is None:
            return
        if live.row.ended_at is not None:
            conductor.book.journal(batch, live, "late", 0, envelope.type, bytes(said.data))
            return
        row = Early(
            live.row.name,
            envelope.type,
            said.key,
            batch.now,
            bytes(said.data),
            envelope.schemaversion,
        )
        early.put_back(batch.connection, row)
        batch.listening += [(live.row.id, pos) for pos in live.calls]

    def settle(self, batch: Batch) -> None:
        """At the end of a batch, outside its messages: what came meets who waits."""
        while batch.posted or batch.listening:
            posted, listening = batch.posted, batch.listening
            batch.posted, batch.listening = [], []
            batch.write_out()
            for envelope in posted:
                for kind in self._kinds(envelope.type):
                    self._distribute(batch, envelope, kind)
            for saga_id, pos in listening:
                self._look(batch, saga_id, pos)
        for saga_id in batch.outcome.ended:
            self._clear(batch, saga_id)

    def _kinds(self, type_name: str) -> list[SagaKind]:
        return self._delivery.registry.receivers(self._delivery.name, type_name)

    def _distribute(self, batch: Batch, envelope: Envelope, kind: SagaKind) -> None:
        key, name = envelope.subject or "", self._delivery.name
        names = self._delivery.registry.names(envelope.type)
        found = [one for known in names for one in early.awaiting(batch.connection, known, key)]
        has_taken = False
        for saga_id, pos in found:
            if not saga_id.startswith(f"{name}/{kind.name}/"):
                continue
            waiting = self._waiting(batch, saga_id, pos)
            if waiting is not None and not (has_taken and envelope.kind == "command"):
                has_taken = True
                self._give(batch, *waiting, key, envelope.data, envelope.schemaversion)
        if not has_taken:
            self._keep(batch, envelope, kind, key)

    def _keep(self, batch: Batch, envelope: Envelope, kind: SagaKind, key: str) -> None:
        """Nobody waits for it yet; to a saga that has ended it is late."""
        conductor, data = self._delivery.conductor, bytes(envelope.data)
        live = conductor.book.find(batch, conductor.beginning.id_of(kind, key))
        has_ended = live is not None and live.row.ended_at is not None
        if has_ended and kind.spec.again == "after_end":
            live, has_ended = None, False  # it may be for the next round
        if live is not None:
            told = "late" if has_ended else "kept"
            conductor.book.journal(batch, live, told, 0, envelope.type, data)
        if not has_ended:
            version = envelope.schemaversion
            row = Early(kind.name, envelope.type, key, batch.now, data, version)
            early.add(batch.connection, row)

    def _look(self, batch: Batch, saga_id: str, pos: int) -> None:
        """A saga has begun to wait: perhaps what it waits for is here."""
        waiting = self._waiting(batch, saga_id, pos)
        if waiting is None:
            return
        live, call = waiting
        key = call.key or ""
        for known in self._delivery.registry.names(call.name):
            row = early.take(batch.connection, live.row.name, known, key)
            if row is not None:
                self._give(batch, live, call, key, msgspec.Raw(row.body), row.version)
                return

    def _waiting(self, batch: Batch, saga_id: str, pos: int) -> tuple[Live, CallRow] | None:
        live = self._delivery.conductor.book.find(batch, saga_id)
        call = None if live is None else live.calls.get(pos)
        if live is None or call is None or call.kind != "receive" or call.is_here:
            return None
        return live, call

    def _give(
        self,
        batch: Batch,
        live: Live,
        call: CallRow,
        key: str,
        data: msgspec.Raw,
        version: int,
    ) -> None:
        call.key = call.due_at = None
        self._delivery.conductor.book.save_call(batch, call)
        self._delivery.tell_self(
            batch,
            Envelope(
                specversion="1.0",
                id=f"{call.id}:received",
                type=call.name,
                source=self._delivery.name,
                time=batch.time,
                subject=live.row.id,
                data=encode_raw(Received(key, data)),
                kind="received",
                correlationid=live.row.id,
                call=call.pos,
                schemaversion=version,
            ),
        )

    def _clear(self, batch: Batch, saga_id: str) -> None:
        """A saga has ended: what is kept for it was one too many, and is not the next one's."""
        conductor = self._delivery.conductor
        live = conductor.book.find(batch, saga_id)
        kind = None if live is None else conductor.kind_of(live.row)
        if live is None or kind is None or not kind.spec.receives:
            return
        for row in early.take_all(batch.connection, kind.name, live.row.key):
            conductor.book.journal(batch, live, "surplus", 0, row.type, row.body)


def _of_today(envelope: Envelope, wanted: type[Message]) -> Envelope:
    """As a sender of today writes it."""
    message, spec = decode_message(envelope, wanted), wanted.__outboxd__
    if envelope.type == wanted.__name__ and envelope.schemaversion >= spec.version:
        return envelope
    return msgspec.structs.replace(
        envelope,
        type=wanted.__name__,
        data=encode_raw(message),
        schemaversion=spec.version,
    )
