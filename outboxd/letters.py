"""Give up → dead letter: whole, visible, told to who waits for it, and announced as an event."""

from __future__ import annotations

import hashlib

from .batch import Batch
from .holding import LOCAL_KEY, Holding
from .lanes import HELD
from .message import Envelope, MessageDeadLettered, Undecodable, brief, encode, encode_raw
from .registry import Registry
from .saga import where
from .store import dead
from .store.connection import Connection
from .store.dead import Letter
from .store.inbox import Held

UNDECODABLE = "(undecodable)"


class Letters:
    """The dead letters of one participant; ``count``: those that are dead or being replayed."""

    def __init__(self, participant: str, registry: Registry, holding: Holding) -> None:
        self.count = 0
        self._name = participant
        self._registry = registry
        self._holding = holding

    def reload(self, connection: Connection) -> None:
        self.count = dead.count_open(connection)

    def bury(self, batch: Batch, held: Held, envelope: Envelope, error: Exception) -> None:
        """The message becomes a dead letter; its key is released unless its handler holds it."""
        if held.letter is None and self.count and envelope.call is not None:
            self._join(batch, held)
        letter = self._letter(batch, held, envelope, error)
        if held.letter is None:
            held.letter = dead.add(batch.connection, letter)
            self.count += 1
        else:
            dead.die_again(batch.connection, letter)
        name = f"{self._name}/d-{held.letter}"
        handler = self._registry.handler(self._name, envelope.type)
        if handler is not None and handler.spec.hold_key:
            self._holding.put_back(batch, held, HELD)
        else:
            self._holding.leave(batch, held)
        said = f"{type(error).__name__}: {brief(error)}"
        batch.note("message_died", letter=name, id=held.id, error=said)
        batch.reply(envelope, "died", encode({"reason": f"{name}: {said}", "letter": name}))
        self._announce(batch, letter, f"d-{held.letter}", said)

    def bury_bytes(self, batch: Batch, body: bytes, error: Undecodable) -> None:
        """What is no envelope is keyed by its hash, so that a redelivery does not add to it."""
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if dead.by_message(batch.connection, digest) is not None:
            return
        self._holding.count_local(batch)
        stub = Envelope(specversion="1.0", id=digest, type=UNDECODABLE, source="?", time=batch.time)
        self.bury(batch, self._holding.new(batch, stub, body, LOCAL_KEY), stub, error)

    def _join(self, batch: Batch, held: Held) -> None:
        """A call repeated under its id died again: one letter stands for all of them."""
        letter = dead.by_message(batch.connection, held.id)
        if letter is not None and letter.state == "dead" and letter.sender == held.sender:
            held.letter = letter.n
            self._holding.count_done(batch, (held.sender, held.kind))

    def replayed(self, batch: Batch, held: Held) -> None:
        """A replayed letter's message is done."""
        assert held.letter is not None
        self._settle(batch, held.letter, "replayed")
        self.count -= 1

    def resolve(self, batch: Batch, held: Held) -> None:
        """A call repeated under its id succeeded: its old dead letter has no purpose any more."""
        letter = dead.by_message(batch.connection, held.id)
        if letter is not None and letter.state == "dead" and letter.sender == held.sender:
            self._settle(batch, letter.n, "replayed", "repeated by its saga")
            self._holding.count_done(batch, (letter.sender, letter.kind))
            self.count -= 1

    def close(self, batch: Batch, step_id: str) -> Letter | None:
        """A closed call is never replayed; returns its letter, if that was closed or discarded."""
        letter = dead.by_message(batch.connection, step_id)
        if letter is None or letter.state != "dead":
            return letter if letter is not None and letter.state == "discarded" else None
        self.closed(batch, letter.n)
        return letter

    def closed(self, batch: Batch, n: int) -> None:
        self._settle(batch, n, "closed", "closed by its saga")
        self.count -= 1

    def discard(self, batch: Batch, letter: Letter, reason: str) -> None:
        self._settle(batch, letter.n, "discarded", reason)
        self.count -= 1

    def _settle(self, batch: Batch, n: int, state: str, reason: str | None = None) -> None:
        dead.set_state(batch.connection, n, state, reason, settled_at=batch.now)

    def _letter(self, batch: Batch, held: Held, envelope: Envelope, error: Exception) -> Letter:
        handler = self._registry.handler(self._name, envelope.type)
        return Letter(
            n=held.letter or 0,
            id=held.id,
            sender=held.sender,
            kind=held.kind,
            type=envelope.type,
            key=envelope.subject,
            handler=handler.name if handler is not None else f"{self._name}.({envelope.kind})",
            state="dead",
            attempts=held.attempts,
            failed=1,
            replays=0,
            first_at=held.at,
            at=batch.now,
            error_type=type(error).__name__,
            error=brief(error),
            traceback=where(error),
            reason=None,
            body=held.body,
        )

    def _announce(self, batch: Batch, letter: Letter, name: str, said: str) -> None:
        """An alert is a handler; never about a letter about a letter."""
        if letter.type == MessageDeadLettered.__name__:
            return
        event = MessageDeadLettered(
            participant=self._name,
            letter=name,
            message_id=letter.id,
            message_type=letter.type,
            message_key=letter.key,
            handler=letter.handler,
            error=said,
            attempts=letter.attempts,
        )
        batch.publish(
            Envelope(
                specversion="1.0",
                id=f"{self._name}/{name}:dead@{batch.now:.3f}",
                type=MessageDeadLettered.__name__,
                source=self._name,
                time=batch.time,
                subject=letter.id,
                data=encode_raw(event),
                correlationid=letter.id,
            )
        )
