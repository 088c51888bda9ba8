"""An attempt failed: a "no", a hold, another try, a saga that stands, or a dead letter.

That is the closed set of what may follow. ``retry`` decides, purely; what follows is written in the
transaction in which the attempt ended, with a row that tells of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import retry, standing
from .batch import Batch
from .conductor import Parked
from .errors import CodeChanged, Reject, Retry, Unrecoverable
from .lanes import HELD, RUNNING, WAITING
from .message import Envelope, TooBig, Undecodable, brief, encode
from .routing import Unroutable
from .saga import where
from .store import fence, inbox
from .store.inbox import Held

if TYPE_CHECKING:
    from .delivery import Delivery


class Failing:
    """What becomes of one participant's failed attempts. ``chance()``: a number in [0, 1)."""

    def __init__(self, delivery: Delivery, chance: Callable[[], float]) -> None:
        self._delivery = delivery
        self._chance = chance

    def failed(
        self, batch: Batch, held: Held, envelope: Envelope, body: bytes, error: Exception
    ) -> None:
        """The closed set of what may follow: an answer "no", a hold, another try, a dead letter."""
        match error:
            case Reject() if not envelope.is_undo:
                said = encode({"reason": brief(error.reason)})
                if envelope.call is not None and envelope.replyto is None:
                    # Nobody waits for it yet: whoever asks for its result is told then.
                    fence.put(batch.connection, held.id, "closed", batch.now, said)
                batch.reply(envelope, "rejected", said)
                self._delivery.done(batch, held)
                return
            case Parked():
                held.error = brief(error)
                self._delivery.holding.put_back(batch, held, HELD)
                return
        if held.state != RUNNING:
            held.attempts += 1  # a first try in its batch is counted now, in the same commit
        verdict = self._verdict(batch, held, envelope, error)
        self._record(batch, held, verdict, error)
        if not envelope.is_undo and self._delivery.closing.interrupted(batch, held):
            return
        if isinstance(verdict, retry.RetryIn):
            self._delivery.holding.put_back(batch, held, WAITING, batch.now + verdict.delay_s)
        elif self._is_bug(envelope, error):
            self._stick(batch, held, envelope, body, error)
        else:
            self._delivery.letters.bury(batch, held, envelope, error)

    def crashed(self, batch: Batch, held: Held, envelope: Envelope) -> None:
        """The process has ended too often while this message ran."""
        if not envelope.is_undo and self._delivery.closing.interrupted(batch, held):
            return
        error = Unrecoverable(f"the process ended {held.crashes} times while this message ran")
        if self._is_bug(envelope, error):
            self._stick(batch, held, envelope, held.body, error)
        else:
            self._delivery.letters.bury(batch, held, envelope, error)

    def _is_bug(self, envelope: Envelope, error: Exception) -> bool:
        """Whether the code of a saga failed, not the message that was to move it."""
        is_unreadable = isinstance(error, (Undecodable, Unroutable))
        return self._delivery.routing.moves_saga(envelope) and not is_unreadable

    def _record(self, batch: Batch, held: Held, verdict: retry.Verdict, error: Exception) -> None:
        """One row per failed attempt, and what follows from it."""
        took_s = batch.now - (held.started_at or batch.now)
        match verdict:
            case retry.RetryIn(delay_s=delay_s):
                outcome = f"again in {delay_s:.2f} s"
            case retry.GiveUp():
                outcome = "gave up"
        held.error = f"{type(error).__name__}: {brief(error)}"
        inbox.fail_attempt(
            batch.connection, held.id, batch.now, took_s, outcome, held.error, where(error)
        )
        batch.note("attempt_failed", id=held.id, attempt=held.attempts, error=held.error)

    def _verdict(
        self, batch: Batch, held: Held, envelope: Envelope, error: Exception
    ) -> retry.Verdict:
        if isinstance(error, (Undecodable, Unroutable, Unrecoverable, CodeChanged, Reject, TooBig)):
            return retry.GiveUp(brief(error))
        return retry.decide(
            self._policy(batch, envelope),
            held.attempts,
            self._chance(),
            spent_s=batch.now - held.at,
            budget_s=retry.PATIENT_BUDGET_S if envelope.is_undo else None,
            after_s=error.after_s if isinstance(error, Retry) else None,
        )

    def _policy(self, batch: Batch, envelope: Envelope) -> retry.Policy:
        if envelope.is_undo:
            return retry.PATIENT
        if self._delivery.routing.moves_saga(envelope):
            kind = self._delivery.routing.starts(envelope)
            live = self._delivery.conductor.book.find(batch, envelope.correlationid or "")
            if kind is None and live is not None:
                kind = self._delivery.registry.saga_named(self._delivery.name, live.row.name)
            return kind.spec.policy if kind is not None else retry.Policy(attempts=3)
        plan = self._delivery.firing.plan(envelope)
        if plan is not None:
            return plan.policy
        handler = self._delivery.registry.handler(self._delivery.name, envelope.type)
        return handler.spec.policy if handler is not None else retry.Policy()

    def _stick(
        self, batch: Batch, held: Held, envelope: Envelope, body: bytes, error: Exception
    ) -> None:
        """A bug in saga code never compensates an order: the message is held, the saga stands."""
        kind, conductor = self._delivery.routing.starts(envelope), self._delivery.conductor
        saga_id = standing.stick_on_bug(conductor, batch, envelope, body, kind, error)
        if saga_id is None:
            self._delivery.letters.bury(batch, held, envelope, error)
        else:
            held.error = saga_id
            self._delivery.holding.put_back(batch, held, HELD)
