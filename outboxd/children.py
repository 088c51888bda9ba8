"""Sagas that calls have started, on the side where they run, and what becomes of them.

A call that is undone or closed takes its saga back: it is cancelled, and the undo is held until it
has ended. One that is past its point of no return goes on to its end first. Then the undo's handler
knows what it undoes; of a saga that has undone itself nothing is left to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .batch import Batch
from .book import Live
from .ending import LEFT
from .lanes import HELD, WAITING
from .message import Envelope, decode_envelope, encode
from .standing import KILLED
from .store import dead, fence, inbox, journal
from .store.fence import Fence
from .store.inbox import Held

if TYPE_CHECKING:
    from .delivery import Delivery

NEVER = b'"never"'
UNKNOWN = b'"unknown"'


class Children:
    """The sagas of one participant that somebody else's calls have started."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def started(self, batch: Batch, envelope: Envelope) -> None:
        """A call has started a saga: whether it did its work is not known before its end."""
        if envelope.call is not None and fence.get(batch.connection, envelope.id) is None:
            self._record(batch, envelope.id, batch.outcome.sagas.get(envelope.id))

    def find_held(self, batch: Batch, step_id: str) -> None:
        """A saga whose first step failed has no fence yet: its start is held for it."""
        if fence.get(batch.connection, step_id) is None:
            start = inbox.by_id(batch.connection, step_id)
            if start is not None and start.state == HELD and start.letter is None:
                self._record(batch, step_id, start.error)

    def stop(self, batch: Batch, held: Held, envelope: Envelope) -> bool:
        """Takes back a saga that is under way; returns whether the undo is dealt with for now."""
        step_id = envelope.undoes or ""
        live = self._under_way(batch, step_id)
        if live is None:
            return False
        if decode_envelope(live.row.start).id != step_id:
            # It was there before: this call has only joined it, and leaves it to its own caller.
            journal.drop_waiter(batch.connection, live.row.id, step_id)
            fence.put(batch.connection, step_id, "closed", batch.now, NEVER)
            return False
        if envelope.outcome == LEFT:
            self._delivery.done(batch, held)
            return True
        self._hold(batch, held, envelope, live)
        self._cancel(batch, live, envelope)
        return True

    def must_wait(self, batch: Batch, held: Held, envelope: Envelope) -> bool:
        """An undo's turn has come; holds it again while its saga is still under way."""
        live = self._under_way(batch, envelope.undoes or "")
        if live is None:
            return False
        self._hold(batch, held, envelope, live)
        return True

    def free(self, batch: Batch) -> None:
        """The undos whose sagas have ended take their turn."""
        for message_id in batch.outcome.freed:
            held = inbox.by_id(batch.connection, message_id)
            if held is not None and held.state == HELD:
                held.error = None
                self._delivery.holding.put_back(batch, held, WAITING, batch.now)

    def join(self, batch: Batch, envelope: Envelope) -> None:
        """Somebody asks for the result of what an earlier message of theirs has started."""
        start_id = envelope.causationid or ""
        known = fence.get(batch.connection, start_id)
        live = None
        if known is not None and known.state == "started" and known.result is not None:
            live = self._find(batch, known)
        if live is not None and live.row.ended_at is None:
            journal.add_waiter(batch.connection, live.row.id, envelope.id, encode(envelope))
        elif live is not None:
            self._delivery.conductor.ending.answer(batch, envelope, live)
        elif known is not None and known.state == "done":
            batch.reply(envelope, "ok", known.result or b"null")
        else:
            self._say_no(batch, envelope, start_id, known)

    def _say_no(self, batch: Batch, envelope: Envelope, start_id: str, known: Fence | None) -> None:
        """What was to be started never was, or was taken back."""
        if known is not None and (known.result or b"").startswith(b"{"):
            batch.reply(envelope, "rejected", known.result or b"{}")
            return
        letter = dead.by_message(batch.connection, start_id)
        said = f"{envelope.type} has not started"
        if letter is not None:
            said += f": it is dead letter {self._delivery.name}/{letter.name}, {letter.error}"
        batch.reply(envelope, "failed", encode({"reason": said}))

    def judged(self, batch: Batch, step_id: str) -> Fence | None:
        """What a call that started a saga has come to, once that has ended; None for others."""
        known = fence.get(batch.connection, step_id)
        if known is None or known.state != "started" or known.result is None:
            return None
        live = self._find(batch, known)
        if live is not None and live.row.ended_at is None:
            return known
        if live is not None and live.row.state == "completed":
            judged = Fence("done", live.row.result)
        else:
            was_killed = live is not None and (live.row.reason or "").startswith(KILLED)
            judged = Fence("closed", UNKNOWN if was_killed else NEVER)
        fence.put(batch.connection, step_id, judged.state, batch.now, judged.result)
        return judged

    def _record(self, batch: Batch, step_id: str, saga_id: str | None) -> None:
        result = None if saga_id is None else encode(saga_id)
        fence.put(batch.connection, step_id, "started", batch.now, result)

    def _under_way(self, batch: Batch, step_id: str) -> Live | None:
        """The saga that a call started, if it has not ended."""
        known = fence.get(batch.connection, step_id)
        if known is None or known.state != "started" or known.result is None:
            return None
        live = self._find(batch, known)
        return live if live is not None and live.row.ended_at is None else None

    def _find(self, batch: Batch, known: Fence) -> Live | None:
        saga_id = msgspec.json.decode(known.result or b'""', type=str)
        return self._delivery.conductor.book.find(batch, saga_id)

    def _hold(self, batch: Batch, held: Held, envelope: Envelope, live: Live) -> None:
        journal.add_waiter(batch.connection, live.row.id, held.id, encode(envelope))
        held.error = live.row.id
        self._delivery.holding.put_back(batch, held, HELD)

    def _cancel(self, batch: Batch, live: Live, envelope: Envelope) -> None:
        """As a message of its own: a bug that the saga's code has on its way out is the saga's."""
        said = f"{envelope.correlationid or envelope.source} takes its call back"
        self._delivery.tell_self(
            batch,
            Envelope(
                specversion="1.0",
                id=f"{live.row.id}:cancel@{batch.now:.3f}",
                type="cancel",
                source=self._delivery.name,
                time=batch.time,
                kind="cancel",
                correlationid=live.row.id,
                data=msgspec.Raw(encode({"reason": said})),
            ),
        )
