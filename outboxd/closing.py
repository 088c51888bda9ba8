"""Undo and close: a call whose outcome is unknown is closed, and what it may have done is undone.

An undo travels in the lane of its step. It passes a step that is waiting or retrying and closes it;
it waits for one that is running; it runs its handler only if the step was, or may have been,
carried out. The fence is the memory of all this: a closed step is never executed, however late it
comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from . import answering
from .batch import Batch
from .children import NEVER, UNKNOWN, Children
from .ending import SETTLED
from .lanes import RUNNING, WAITING, Slot
from .message import Envelope, Undecodable, decode_envelope, decode_message, encode
from .store import dead, fence, inbox
from .store.dead import Letter
from .store.fence import Fence
from .store.inbox import Held
from .tx import Step

if TYPE_CHECKING:
    from .delivery import Delivery

CLOSE = b'"kind":"close"'

SHOWN = 16 * 1024
"""Bytes of a step's result that the answer to its undo repeats."""


class Closing:
    """What one participant does with undo and close messages."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.children = Children(delivery)

    def overtake(self, batch: Batch, held: Held, envelope: Envelope) -> bool:
        """An undo or close arrives; returns whether that has dealt with it.

        1. The step waits, or is dead: it is closed here and now, passing whatever is before it.
        2. It never came: its fence is set, so that it is refused if it comes late.
        3. It is done, or running: the undo takes its turn in the lane.
        4. It has started a saga: that is cancelled, and the undo waits for its end.
        """
        step_id = envelope.undoes or ""
        if envelope.outcome == SETTLED:
            self._settle(batch, held, step_id)
            return True
        self.children.find_held(batch, step_id)
        if self.children.stop(batch, held, envelope):
            return True
        if fence.get(batch.connection, step_id) is None and envelope.outcome != "done":
            step = inbox.by_id(batch.connection, step_id)
            if step is not None and step.state == RUNNING:
                held.lane = step.lane  # a replayed step, or one without a key, has its own
                return False
            if step is not None:
                return self._pass(batch, held, envelope, step)
            letter = self._delivery.letters.close(batch, step_id)
            if letter is not None:
                self.give_up(batch, letter)
        return self.is_needless(batch, held, envelope)

    def foresee(self, batch: Batch, bodies: Sequence[bytes | None]) -> None:
        """Calls that an operator has closed meanwhile are not executed first, if they come along.

        Their participant was away: call and close come in one batch, in the order they were sent.
        """
        for body in bodies:
            if body is None or CLOSE not in body:
                continue
            with suppress(Undecodable):
                envelope = decode_envelope(body)
                step_id = envelope.undoes or ""
                if envelope.kind != "close" or envelope.replyto is not None:
                    continue
                is_new = self._delivery.arrival.is_next(envelope)
                if is_new and envelope.outcome != SETTLED and not self._knows(batch, step_id):
                    fence.put(batch.connection, step_id, "closed", batch.now, NEVER)

    def _knows(self, batch: Batch, step_id: str) -> bool:
        """Whether a step has ever come here."""
        return (
            fence.get(batch.connection, step_id) is not None
            or inbox.by_id(batch.connection, step_id) is not None
            or dead.by_message(batch.connection, step_id) is not None
        )

    def is_needless(self, batch: Batch, held: Held, envelope: Envelope) -> bool:
        """Whether there is nothing to undo; then it is answered and done."""
        known = self._fence(batch, envelope)
        if envelope.kind == "undo" and not _is_moot(known):
            return False
        if envelope.kind == "close" and known.state == "done":
            return False
        self._answer(batch, envelope, known)
        self._delivery.done(batch, held)
        return True

    def close(self, batch: Batch, held: Held, envelope: Envelope) -> None:
        """An undo's or a close's turn has come; runs a def undo handler."""
        known = self._fence(batch, envelope)
        if envelope.kind == "close" or _is_moot(known):
            self._answer(batch, envelope, known)
            return
        handler = self._delivery.routing.handler(envelope)
        message = decode_message(envelope, handler.message)
        step = self.step_of(batch, envelope)
        with self._delivery.tx(batch, envelope, held.attempts, step) as tx:
            value = handler.spec.fn(tx, message)
        batch.send_all(tx.outgoing)
        answering.conclude(batch, envelope, encode(value))

    def step_of(self, batch: Batch, envelope: Envelope) -> Step | None:
        """What an undo's handler is told of its step; None for any other message."""
        if envelope.undoes is None:
            return None
        known = fence.get(batch.connection, envelope.undoes)
        if known is not None and known.state == "done":
            return Step(envelope.undoes, True, msgspec.Raw(known.result or b"null"))
        return Step(envelope.undoes, False, None)

    def interrupted(self, batch: Batch, held: Held) -> bool:
        """An attempt has failed; if an undo waits for it there is no other: the step is closed."""
        ids = (f"{held.id}~undo", f"{held.id}~close")
        undo = next(filter(None, (inbox.by_id(batch.connection, name) for name in ids)), None)
        if undo is None:
            return False
        lanes = self._delivery.holding.lanes
        lanes.remove(undo.n)
        slot = Slot(undo.n, undo.lane, WAITING, undo.due_at, bool(undo.is_suspect))
        lanes.add(slot, before=held.n)
        acted = self._may_have_acted(batch, held.id, True, held.type)
        fence.put(batch.connection, held.id, "closed", batch.now, UNKNOWN if acted else NEVER)
        self._end(batch, held)
        return True

    def _pass(self, batch: Batch, held: Held, envelope: Envelope, step: Held) -> bool:
        """Closes a step that waits; what an effect may have done is undone in its place."""
        was_begun = step.started_at is not None or step.letter is not None or step.attempts > 0
        state = UNKNOWN if self._may_have_acted(batch, step.id, was_begun, step.type) else NEVER
        fence.put(batch.connection, step.id, "closed", batch.now, state)
        if envelope.kind == "undo" and state == UNKNOWN:
            self._delivery.holding.hold(batch, held, before=step.n)
            self._end(batch, step)
            return True
        self._end(batch, step)
        return self.is_needless(batch, held, envelope)

    def _end(self, batch: Batch, step: Held) -> None:
        """A step that is closed leaves the inbox; its letter, if it has one, is closed with it."""
        if step.letter is None:
            self._delivery.done(batch, step)
        else:
            self._delivery.holding.leave(batch, step)
            self._delivery.forget_effect(batch, step.id, step.type)
            self._delivery.letters.closed(batch, step.letter)

    def _settle(self, batch: Batch, held: Held, step_id: str) -> None:
        """An operator answers for an undo: it is not tried again. One that runs cannot be stopped.

        A step that still runs keeps its undo, which knows more than the operator could.
        """
        undo_id = f"{step_id}~undo"
        step = inbox.by_id(batch.connection, step_id)
        if step is None:
            fence.put(batch.connection, step_id, "undone", batch.now)
            undo = inbox.by_id(batch.connection, undo_id)
            if undo is not None and undo.state != RUNNING:
                self._delivery.done(batch, undo)
            self._delivery.letters.close(batch, undo_id)
        self._delivery.done(batch, held)

    def give_up(self, batch: Batch, letter: Letter) -> None:
        """A letter whose saga closes its call: it can never run again."""
        acted = self._may_have_acted(batch, letter.id, True, letter.type)
        fence.put(batch.connection, letter.id, "closed", batch.now, UNKNOWN if acted else NEVER)
        self._delivery.forget_effect(batch, letter.id, letter.type)

    def _may_have_acted(self, batch: Batch, step_id: str, was_begun: bool, type_name: str) -> bool:
        """A def handler's failed attempts were rolled back; an effect's were not."""
        if inbox.has_acted(batch.connection, step_id):
            return True
        return was_begun and self._delivery.routing.acts_outside(type_name)

    def _fence(self, batch: Batch, envelope: Envelope) -> Fence:
        step_id = envelope.undoes or ""
        known = self.children.judged(batch, step_id) or fence.get(batch.connection, step_id)
        if known is None and envelope.outcome == "done":
            return Fence("done", None)  # older than our memory, but the saga has its answer
        if known is None:
            fence.put(batch.connection, step_id, "closed", batch.now, NEVER)
            known = Fence("closed", NEVER)
        return known

    def _answer(self, batch: Batch, envelope: Envelope, known: Fence) -> None:
        outcome = "undone" if envelope.kind == "undo" else "closed"
        result = known.result or b"null"
        if len(result) > SHOWN:  # for the journal alone: it must not make the answer too big
            result = b"null"
        batch.reply(envelope, outcome, encode({"step": known.state, "result": msgspec.Raw(result)}))


def _is_moot(known: Fence) -> bool:
    """Nothing was done, or it was undone already: an undo takes effect once."""
    return known.state == "undone" or (known.state == "closed" and known.result != UNKNOWN)
