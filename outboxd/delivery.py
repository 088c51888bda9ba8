"""One batch, one transaction: inbox → handler or saga → state + outbox → commit | retry | letter.

The heart. Synchronous, on a connection, with time and chance from outside; it knows no stream and
no event loop. Every message of a batch ends *held*: done, or a row of the inbox, or a dead letter.
So after COMMIT the whole batch may be acked, and ``accepted`` stands at the last number read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import answering, requests, retry, standing
from .arrival import Arrival
from .batch import NEVER, Batch, Outcome, Started
from .clock import Clock, SteadyClock
from .closing import Closing
from .conductor import Conductor
from .failing import Failing
from .firing import Firing, own_due
from .holding import LOCAL, LOCAL_KEY, Holding
from .lanes import RUNNING, WAITING
from .letters import Letters
from .mail import Mail
from .message import Envelope, checked_size, decode_envelope, decode_message, encode
from .registry import Registry
from .routing import Routing, Unroutable
from .store import inbox, journal, meta, outbox, pausing, retention, timers
from .store.connection import Connection, is_infrastructure
from .store.control import Request
from .store.inbox import Held
from .store.meta import Identity
from .store.pausing import Pause
from .store.retention import Pruned
from .subscribing import Subscribed, Subscribing
from .traces import failure_of
from .tx import Step, Tx

BATCH_S = 0.02
"""A batch ends after this: slow handlers must not hold back what was already done beside them."""


class Delivery:
    """The messages of one participant. Its memory is an image of the database.

    It is made anew at the start, and whenever finished work was rolled back, which the counter
    ``rollbacks`` of the database tells. ``chance()`` is a random number in [0, 1); ``beat()`` is
    called before each message, for whoever watches that handlers return.
    """

    def __init__(
        self,
        participant: str,
        registry: Registry,
        clock: Clock,
        chance: Callable[[], float],
        rollbacks: Callable[[], int] = lambda: 0,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = participant
        self.registry = registry
        self.clock = SteadyClock(clock)
        self.routing = Routing(participant, registry)
        self.holding = Holding(registry)
        self.letters = Letters(participant, registry, self.holding)
        self.conductor = Conductor(participant, registry)
        self.subscribing = Subscribing(participant, registry)
        self.firing = Firing(participant, registry)
        self.arrival = Arrival(self)
        self.closing = Closing(self)
        self.mail = Mail(self)
        self.failing = Failing(self, chance)
        self.last: dict[str, int] = {}
        self.epoch = 0
        self.paused: Pause | None = None
        self._rollbacks = rollbacks
        self._beat = beat
        self._rollbacks_seen = 0
        self._is_stale = True
        self._is_cautious = False

    # Entry points: each is one function for Database.write.

    def accept(
        self, connection: Connection, bodies: Sequence[bytes | None], *, are_suspect: bool = False
    ) -> Outcome:
        """Takes what a stream gave, for BATCH_S at most: ``Outcome.taken`` says how many."""
        with self.batch(connection) as batch:
            ends_at = self.clock.monotonic() + BATCH_S
            self.closing.foresee(batch, bodies)
            for body in bodies:
                if body is not None:
                    self.arrival.take(batch, body, are_suspect)
                batch.outcome.taken += 1
                if self.clock.monotonic() >= ends_at:
                    break
        return batch.outcome

    def submit(self, connection: Connection, envelopes: Sequence[Envelope]) -> Outcome:
        """Takes messages that came without a stream, and publishes events of ours: each once."""
        with self.batch(connection) as batch:
            for envelope in envelopes:
                if envelope.kind == "event" and envelope.source == self.name:
                    self.arrival.publish_foreign(batch, envelope)
                else:
                    self.arrival.take_foreign(batch, envelope, checked_size(encode(envelope)))
        return batch.outcome

    def begin(self, connection: Connection, limit: int, *, suspects: bool = False) -> Outcome:
        """Makes due messages run: first tries at once, others after their attempt is committed."""
        with self.batch(connection) as batch:
            lanes = self.holding.lanes
            chosen = lanes.suspect() if suspects else None
            numbers = lanes.due(batch.now, limit) if not suspects else [chosen] if chosen else []
            ends_at = self.clock.monotonic() + BATCH_S
            for n in numbers:
                held = inbox.by_number(connection, n)
                if held is not None:
                    self._begin(batch, held)
                if self.clock.monotonic() >= ends_at:
                    batch.wake_by(batch.now)
                    break
        return batch.outcome

    def run(self, connection: Connection, n: int) -> Outcome:
        """Makes the committed attempt of a def handler or a saga."""
        with self._running(connection, n) as (batch, held):
            if held is not None:
                self._attempt(batch, held, decode_envelope(held.body), held.body)
        return batch.outcome

    def finish(
        self, connection: Connection, n: int, work: Callable[[Tx], Any]
    ) -> tuple[Outcome, Any]:
        """Ends an effect: ``work(tx)`` is its one transaction, its value the reply."""
        value = None
        with self._running(connection, n) as (batch, held):
            envelope = None if held is None else decode_envelope(held.body)
            if held is not None and envelope is not None and answering.is_refused(batch, envelope):
                self.done(batch, held)
            elif held is not None and envelope is not None:
                step = self.closing.step_of(batch, envelope)
                with self.tx(batch, envelope, held.attempts, step) as tx:
                    value = work(tx)
                batch.send_all(tx.outgoing)
                answering.conclude(batch, envelope, encode(value))
                self.done(batch, held)
        return batch.outcome, value

    def fail(self, connection: Connection, n: int, error: Exception) -> Outcome:
        """Ends an effect's attempt that raised ``error``."""
        with self._running(connection, n) as (batch, held):
            if held is not None:
                self.failing.failed(batch, held, decode_envelope(held.body), held.body, error)
        return batch.outcome

    def release(self, connection: Connection, n: int) -> Outcome:
        """Gives back an attempt that was interrupted, not failed: it is not counted."""
        with self._running(connection, n) as (batch, held):
            if held is not None:
                held.attempts -= 1
                self.holding.put_back(batch, held, WAITING, batch.now)
        return batch.outcome

    def timers(self, connection: Connection, *, sleeps_only: bool, limit: int = 200) -> Outcome:
        """Fires what is due: deadlines and sleeps move their sagas, delayed messages set out."""
        with self.batch(connection) as batch:
            for stream, message_id, body in outbox.take_due(connection, batch.now, limit):
                batch.send_raw(stream, message_id, body)
            for saga_id, pos in timers.due(connection, batch.now, limit, sleeps_only=sleeps_only):
                if self.conductor.fire(batch, saga_id, pos):
                    self.tell_self(batch, own_due(batch, saga_id, pos))
            self.firing.fire(batch, self.tell_self)
            patience = batch.now - retry.PATIENT_BUDGET_S
            silent = [] if sleeps_only else journal.unanswered(connection, patience, limit)
            for saga_id, pos, name in silent:
                standing.stick_unanswered(self.conductor, batch, saga_id, pos, name)
            batch.write_out()
            batch.wake_by(self._next_due(connection))
        return batch.outcome

    def apply(self, connection: Connection, request: Request) -> Outcome:
        """Applies an operator's or sender's request, once. Raises Refused, with nothing changed."""
        with self.batch(connection) as batch:
            batch.outcome.answer = requests.apply(self, batch, request)
        return batch.outcome

    def subscribe(self, connection: Connection, local: Collection[str]) -> Outcome:
        """Asks the publishers of other processes for this one's subscriptions."""
        with self.batch(connection) as batch:
            self.subscribing.ask(batch, local)
        return batch.outcome

    def enrol(self, connection: Connection, subscriber: str, since: str) -> Subscribed:
        """As a publisher: keeps events for a subscriber of this process from now on."""
        with self.batch(connection) as batch:
            return self.subscribing.enrol(batch, subscriber, since, self.last, self.epoch)

    def follow(self, connection: Connection, publisher: str, said: Subscribed) -> None:
        """As a subscriber: a publisher's events begin as it said."""
        with self.batch(connection) as batch:
            self.subscribing.follow(batch, publisher, said, self.holding.senders)

    def reports(self, connection: Connection) -> Outcome:
        """All that is held of each sender, for a broker that may have forgotten it."""
        with self.batch(connection) as batch:
            batch.touched.update(key for key in self.holding.senders if key[1] != LOCAL)
        return batch.outcome

    def settled(self, connection: Connection, marks: Sequence[tuple[str, int]]) -> None:
        """Deletes outbox rows that every receiver holds."""
        outbox.settle(connection, marks)

    def opened(self, connection: Connection, *, was_clean: bool) -> None:
        """The first transaction after a start.

        After a crash what was running is suspect, and what may have been running unrecorded. From
        then on whatever comes without a stream is held before it runs, so that it can be suspected.
        """
        self._is_cautious = not was_clean
        inbox.reopen(connection, self.clock.now(), was_clean=was_clean)
        self.firing.opened(connection, self.clock.now())
        self._reload(connection)

    def renew(self, connection: Connection, epoch: int) -> Identity:
        """This store was restored: its outbox begins anew, in an epoch after ``epoch``."""
        outbox.renumber(connection)
        self._is_stale = True
        return meta.new_epoch(connection, self.clock.now(), epoch)

    def prune(self, connection: Connection, before: float) -> Pruned:
        """Removes a part of what has ended before ``before`` (UTC seconds)."""
        with self.batch(connection) as batch:
            found = retention.prune(connection, before)
            self.conductor.book.pruned(batch, found.sagas)
            for key, count in found.letters.items():  # still accounted for: nothing was lost
                self.holding.count_done(batch, key, count)
        return found

    def forgive(self, connection: Connection, gap_s: float) -> None:
        """Moves the deadlines of open calls on by the time in which no answer could come."""
        timers.forgive(connection, gap_s, self.clock.now())
        self._is_stale = True

    def shift(self, connection: Connection, jump_s: float) -> None:
        """The wall clock jumped: what was due in a while is due in the same while."""
        timers.shift(connection, jump_s)
        self.clock.move(jump_s)
        self.firing.shifted(connection, jump_s, self.clock.now())
        self._is_stale = True

    @contextmanager
    def batch(self, connection: Connection) -> Iterator[Batch]:
        """A transaction of this participant: fresh memory before, numbers and senders after."""
        if self._is_stale or self._rollbacks() != self._rollbacks_seen:
            self._reload(connection)
        batch = Batch(connection, self.name, self.clock.now())
        # Until the end: an exception leaves memory that is not to be believed.
        self._is_stale = True
        yield batch
        self.mail.settle(batch)
        self.closing.children.free(batch)
        batch.flush(self.last)
        self.holding.reports(batch)
        batch.outcome.has_suspects = self.holding.lanes.suspect() is not None
        self._is_stale = False

    @contextmanager
    def _running(self, connection: Connection, n: int) -> Iterator[tuple[Batch, Held | None]]:
        """A batch for the end of one attempt; no row if it was ended otherwise meanwhile."""
        with self.batch(connection) as batch:
            held = inbox.by_number(connection, n)
            yield batch, held if held is not None and held.state == RUNNING else None

    # One message is ours.

    def admit(
        self, batch: Batch, envelope: Envelope, body: bytes, key: tuple[str, str], is_suspect: bool
    ) -> None:
        """A message is ours now: it runs at once if its lane is free, or waits in the inbox."""
        held = self.holding.new(batch, envelope, body, key)
        if envelope.is_undo and self.closing.overtake(batch, held, envelope):
            return
        is_unrecorded = self._is_cautious and key == LOCAL_KEY
        if is_suspect or is_unrecorded or not self.holding.lanes.is_free(held.lane):
            held.is_suspect = int(is_suspect)
            self.holding.hold(batch, held)
        elif self.routing.is_effect(envelope):
            self._start_effect(batch, held, envelope)
        else:
            self._attempt(batch, held, envelope, body)

    def tell_self(self, batch: Batch, envelope: Envelope) -> None:
        """A message of our own making: it fails, and is tried again, like any other."""
        self.holding.count_local(batch)
        self.admit(batch, envelope, encode(envelope), LOCAL_KEY, False)

    def _begin(self, batch: Batch, held: Held) -> None:
        """A held message may run."""
        envelope = decode_envelope(held.body)
        if envelope.is_undo and self.closing.children.must_wait(batch, held, envelope):
            return
        if held.crashes >= retry.CRASH_LIMIT:
            self.failing.crashed(batch, held, envelope)
        elif self.routing.is_effect(envelope):
            self._start_effect(batch, held, envelope)
        elif held.attempts == 0 and not held.is_suspect:
            self._attempt(batch, held, envelope, held.body)
        else:
            self.holding.put_back(batch, held, RUNNING)
            batch.outcome.started.append(Started(held, envelope, None))

    def _start_effect(self, batch: Batch, held: Held, envelope: Envelope) -> None:
        """Commits the attempt of an async handler; it is made after the commit."""
        if envelope.is_undo and self.closing.is_needless(batch, held, envelope):
            return
        if not envelope.is_undo and answering.answer_again(batch, envelope):
            self.done(batch, held)
            return
        handler = self.routing.handler(envelope)
        if held.is_suspect:  # it runs alone, whatever else has its place
            self.holding.put_back(batch, held, RUNNING)
        elif not self.holding.take_place(batch, held, handler.spec.concurrency):
            return
        step = self.closing.step_of(batch, envelope)
        batch.outcome.started.append(Started(held, envelope, handler, step))

    def _attempt(self, batch: Batch, held: Held, envelope: Envelope, body: bytes) -> None:
        """Handles one message within the batch; a failure undoes it alone."""
        self._beat()
        book = self.conductor.book
        book.checkpoint()
        try:
            with batch.savepoint():
                self._dispatch(batch, held, envelope, body)
        except BaseException as err:
            failure = failure_of(err)
            if failure is None or is_infrastructure(err) or not batch.connection.in_transaction:
                raise
            book.rollback(batch)
            self.failing.failed(batch, held, envelope, body, failure)
            return
        self.done(batch, held)

    def _dispatch(self, batch: Batch, held: Held, envelope: Envelope, body: bytes) -> None:
        match envelope.kind:
            case "command" | "event":
                if answering.answer_again(batch, envelope) or self.mail.post(batch, envelope):
                    return
                kind = self.routing.starts(envelope)
                if kind is not None:
                    self.conductor.beginning.start(batch, envelope, body, kind)
                    self.closing.children.started(batch, envelope)
                elif envelope.kind == "command" or self.routing.has_handler(envelope):
                    self._handle(batch, held, envelope)
            case "reply":
                self.conductor.on_reply(batch, envelope)
            case "due":
                self.conductor.on_due(batch, envelope)
            case "received" if envelope.source == self.name:
                self.mail.hand_over(batch, envelope)
            case "every" if held.kind == LOCAL and self.firing.plan(envelope) is not None:
                self.firing.run(batch, envelope, self.tx(batch, envelope, held.attempts, None))
            case "cancel" if envelope.source == self.name:
                requests.cancel_child(self, batch, envelope)
            case "join":
                self.closing.children.join(batch, envelope)
            case "undo" | "close":
                self.closing.close(batch, held, envelope)
            case "subscribe":
                if held.kind == LOCAL:
                    raise Unroutable("a producer without numbers cannot subscribe")
                self.subscribing.on_subscribe(batch, envelope, self.last, self.epoch)
            case "subscribed":
                self.subscribing.on_subscribed(batch, envelope, self.holding.senders)
            case _:
                raise Unroutable(f"{self.name} knows no messages of kind {envelope.kind!r}")

    def _handle(self, batch: Batch, held: Held, envelope: Envelope) -> None:
        """Runs a def handler; a call's answer is recorded and sent with it."""
        handler = self.routing.handler(envelope)
        message = decode_message(envelope, handler.message)
        with self.tx(batch, envelope, held.attempts, None) as tx:
            value = handler.spec.fn(tx, message)
        batch.send_all(tx.outgoing)
        answering.conclude(batch, envelope, encode(value))

    # One message ends.

    def done(self, batch: Batch, held: Held) -> None:
        """The message is finished: it leaves the inbox and is counted."""
        self.holding.leave(batch, held)
        self.holding.count_done(batch, (held.sender, held.kind))
        self.forget_effect(batch, held.id, held.type)
        if held.letter is not None:
            self.letters.replayed(batch, held)
        elif self.letters.count and held.kind == "in":
            self.letters.resolve(batch, held)

    def forget_effect(self, batch: Batch, message_id: str, type_name: str) -> None:
        """What an effect recorded for its retries; an undo's records lie under its step's id."""
        if self.routing.acts_outside(type_name):
            inbox.forget_once(batch.connection, message_id.removesuffix("~undo"))

    # Memory.

    def _reload(self, connection: Connection) -> None:
        self._rollbacks_seen = self._rollbacks()
        self.holding.reload(connection)
        self.letters.reload(connection)
        self.conductor.book.reload(connection)
        self.subscribing.reload(connection)
        self.last = outbox.last_numbers(connection)
        self.epoch = meta.get(connection, "epoch") or 0
        self.paused = pausing.get(connection)

    def _next_due(self, connection: Connection) -> float:
        """When the next held message, timer, delayed send or silent undo falls due."""
        asked_at = journal.first_unanswered(connection)
        found = (
            None if asked_at is None else asked_at + retry.PATIENT_BUDGET_S,
            self.holding.lanes.next_due(),
            timers.next_due(connection),
            outbox.next_due(connection),
            self.firing.next_due(connection),
        )
        return min((at for at in found if at is not None), default=NEVER)

    def tx(self, batch: Batch, envelope: Envelope, attempt: int, step: Step | None) -> Tx:
        """What a handler of ``envelope`` gets."""
        return Tx(
            batch.connection, self.name, envelope, batch.now, attempt=max(1, attempt), step=step
        )
