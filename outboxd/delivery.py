"""One batch, one transaction: inbox → handler or saga → state + outbox → commit | retry | dead letter.

The heart. Synchronous, on a connection, with time and chance from outside; it knows no stream and
no event loop. Every message of a batch ends *held*: done, or a row of the inbox, or a dead letter. So
after COMMIT the whole batch may be acked, and ``accepted`` stands at the last number read.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from . import retry, settle
from .batch import NEVER, Batch, Outcome, Started
from .clock import Clock
from .closing import Closing
from .conductor import Conductor, Parked
from .errors import CodeChanged, Reject, Retry, Unrecoverable
from .lanes import HELD, RUNNING, WAITING, Lanes, Slot
from .message import (
    Envelope,
    MessageDeadLettered,
    Undecodable,
    decode_data,
    decode_envelope,
    encode,
    encode_raw,
)
from .registry import Handler, Registry, SagaKind
from .saga import where
from .settle import Receipt
from .store import dead, fence, inbox, journal, meta, outbox, timers
from .store.connection import Connection, is_infrastructure
from .store.dead import Letter
from .store.inbox import Held, Sender
from .subscribing import Subscribing
from .tx import Step, Tx

LOCAL = "local"
"""The kind of what came without numbers: timers, sends, foreign producers; counted under "*"."""

FULL_PAUSE_S = 0.05
"""When as many effects of a handler run as its ``concurrency`` allows, the next ask again then."""


class Unroutable(Exception):  # noqa: N818
    """No handler here for this type."""


class Delivery:
    """The messages of one participant. Its memory is an image of the database.

    It is made anew at the start, and whenever finished work was rolled back, which the counter
    ``rollbacks`` of the database tells.
    """

    def __init__(
        self,
        participant: str,
        registry: Registry,
        clock: Clock,
        chance: Callable[[], float],
        rollbacks: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name = participant
        self.registry = registry
        self.clock = clock
        self.chance = chance
        self.lanes = Lanes()
        self.conductor = Conductor(participant, registry)
        self.subscribing = Subscribing(participant, registry)
        self.closing = Closing(self)
        self.senders: dict[tuple[str, str], Sender] = {}
        self.last: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self.letters = 0
        self.epoch = 0
        self.running: Counter[str] = Counter()
        self._is_stale = True
        self._rollbacks = rollbacks
        self._rollbacks_seen = 0

    # Entry points: each is one function for Database.write.

    def opened(self, connection: Connection, *, was_clean: bool) -> None:
        """The first transaction after a start: what was running is suspect after a crash."""
        self._reload(connection)
        for held in inbox.everything(connection):
            if held.state == RUNNING:
                held.state, held.due_at = WAITING, self.clock.now()
                if not was_clean:
                    held.is_suspect, held.crashes = 1, held.crashes + 1
                inbox.save(connection, held)
        self._is_stale = True

    def accept(
        self, connection: Connection, bodies: Sequence[bytes | None], *, are_suspect: bool = False
    ) -> Outcome:
        """Takes a batch read from a stream."""
        with self.batch(connection) as batch:
            for body in bodies:
                if body is not None:
                    self._take(batch, body, are_suspect)
        return batch.outcome

    def submit(self, connection: Connection, envelopes: Sequence[Envelope]) -> Outcome:
        """Takes messages that came without a stream: each (source, id) once."""
        with self.batch(connection) as batch:
            for envelope in envelopes:
                self.take_foreign(batch, envelope, encode(envelope))
        return batch.outcome

    def begin(self, connection: Connection, limit: int, *, suspects: bool = False) -> Outcome:
        """Makes due messages run: first tries at once, others after their attempt is committed."""
        with self.batch(connection) as batch:
            if suspects:
                chosen = self.lanes.suspect()
                numbers = [] if chosen is None else [chosen]
            else:
                numbers = self.lanes.due(batch.now, limit)
            for n in numbers:
                held = inbox.by_number(connection, n)
                if held is not None:
                    self._begin(batch, held)
        return batch.outcome

    def run(self, connection: Connection, n: int) -> Outcome:
        """Makes the committed attempt of a def handler or a saga."""
        with self.batch(connection) as batch:
            held = inbox.by_number(connection, n)
            if held is not None and held.state == RUNNING:
                self._attempt(batch, held, decode_envelope(held.body), held.body)
        return batch.outcome

    def finish(self, connection: Connection, n: int, work: Callable[[Tx], Any]) -> tuple[Outcome, Any]:
        """Ends an effect: ``work(tx)`` is its one transaction, its value the reply."""
        with self.batch(connection) as batch:
            held = inbox.by_number(connection, n)
            if held is None or held.state != RUNNING:
                return batch.outcome, None
            envelope = decode_envelope(held.body)
            with batch.savepoint():
                tx = self.tx(batch, envelope, held.attempts, self.closing.step_of(batch, envelope))
                value = work(tx)
                tx.close()
                batch.send_all(tx.outgoing)
                self.conclude(batch, envelope, encode(value))
                inbox.forget_once(connection, envelope.undoes or envelope.id)
            self.done(batch, held)
        return batch.outcome, value

    def fail(self, connection: Connection, n: int, error: Exception) -> Outcome:
        """Ends an effect's attempt that raised ``error``."""
        with self.batch(connection) as batch:
            held = inbox.by_number(connection, n)
            if held is not None and held.state == RUNNING:
                envelope = decode_envelope(held.body)
                if not self.closing.interrupted(batch, held):
                    self._failed(batch, held, envelope, held.body, error)
        return batch.outcome

    def release(self, connection: Connection, numbers: Sequence[int]) -> Outcome:
        """Gives back attempts that a shutdown interrupted: they are not counted."""
        with self.batch(connection) as batch:
            for n in numbers:
                held = inbox.by_number(connection, n)
                if held is not None and held.state == RUNNING:
                    held.attempts -= 1
                    self.put_back(batch, held, WAITING, batch.now)
        return batch.outcome

    def timers(self, connection: Connection, *, sleeps_only: bool, limit: int = 200) -> Outcome:
        """Fires what is due: deadlines and sleeps move their sagas, delayed messages set out."""
        with self.batch(connection) as batch:
            for stream, message_id, body in outbox.take_due(connection, batch.now, limit):
                batch.send_raw(stream, message_id, body)
            for saga_id, pos in timers.due(connection, batch.now, limit, sleeps_only=sleeps_only):
                connection.execute(
                    "UPDATE outboxd_call SET due_at = NULL WHERE saga = ? AND pos = ?", (saga_id, pos)
                )
                message_id = f"{saga_id}#{pos}:due@{batch.now:.3f}"
                envelope = self._own(batch, message_id, "due", saga_id, pos)
                self._admit(batch, envelope, encode(envelope), ("*", LOCAL), False)
            batch.wake_by(self._next_due(connection))
        return batch.outcome

    def settled(self, connection: Connection, marks: Sequence[tuple[str, int]]) -> None:
        """Deletes outbox rows that every receiver holds."""
        outbox.settle(connection, marks)

    def forgive(self, connection: Connection, gap_s: float) -> int:
        """Moves the deadlines of open calls on by the time in which no answer could come."""
        return timers.forgive(connection, gap_s)

    def shift(self, connection: Connection, jump_s: float) -> None:
        """The wall clock jumped: what was due in a while is due in the same while."""
        timers.shift(connection, jump_s)
        self._is_stale = True

    def subscribe(self, connection: Connection) -> Outcome:
        """Asks for the subscriptions that are missing."""
        with self.batch(connection) as batch:
            self.subscribing.ask(batch, self.senders)
        return batch.outcome

    def reports(self, connection: Connection) -> Outcome:
        """All that receivers report of senders, for a broker that may have forgotten it."""
        with self.batch(connection) as batch:
            batch.touched.update(key for key in self.senders if key[1] != LOCAL)
        return batch.outcome

    @contextmanager
    def batch(self, connection: Connection) -> Iterator[Batch]:
        """A transaction of this participant: fresh memory before, numbers and senders after."""
        if self._is_stale or self._rollbacks() != self._rollbacks_seen:
            self._reload(connection)
        batch = Batch(connection, self.name, self.clock.now())
        self._is_stale = True
        yield batch
        batch.flush(self.last)
        touched = [(key, self.senders[key]) for key in batch.touched]
        inbox.save_senders(connection, touched)
        for (sender, kind), row in touched:
            if kind != LOCAL:
                flag = ":hole" if batch.holes.get((sender, kind)) else ""
                batch.outcome.accepted[f"{sender}:{kind}"] = f"{row.epoch}:{row.accepted}{flag}"
        batch.outcome.has_suspects = self.lanes.suspect() is not None
        self._is_stale = False

    # One message arrives.

    def _take(self, batch: Batch, body: bytes, is_suspect: bool) -> None:
        try:
            envelope = decode_envelope(body)
        except Undecodable as err:
            self._bury_bytes(batch, body, err)
            return
        if not envelope.seq:
            self.take_foreign(batch, envelope, body, is_suspect)
            return
        kind = "events" if envelope.kind == "event" else "in"
        key = (envelope.source, kind)
        row = self.senders.get(key)
        if kind == "events" and not self.subscribing.expects(row, envelope):
            return
        known = None if row is None else (row.epoch, row.accepted)
        match settle.receive(known, envelope.epoch, envelope.seq):
            case Receipt.TAKE:
                if row is None:
                    row = self.senders[key] = Sender(envelope.epoch, 0, 0, 0)
                row.accepted = envelope.seq
                batch.touched.add(key)
                batch.holes.pop(key, None)
                self._admit(batch, envelope, body, key, is_suspect)
            case Receipt.HOLE:
                if row is None:
                    self.senders[key] = Sender(envelope.epoch, 0, 0, 0)
                batch.touched.add(key)
                batch.holes[key] = True
            case Receipt.DUPLICATE:
                batch.touched.add(key)
            case Receipt.UNKNOWN_EPOCH:
                self.problems[f"epoch:{envelope.source}"] = (
                    f"{self.name}: {envelope.source} speaks with another store (epoch "
                    f"{envelope.epoch}): its messages wait in its outbox"
                )

    def take_foreign(
        self, batch: Batch, envelope: Envelope, body: bytes, is_suspect: bool = False
    ) -> None:
        """A message without numbers: (source, id) is taken once, other content is refused."""
        mark = zlib.crc32(bytes(envelope.data), zlib.crc32(envelope.type.encode()))
        seen = inbox.seen_mark(batch.connection, envelope.source, envelope.id)
        if seen == mark:
            return
        key = self._local(batch)
        self.senders[key].accepted += 1
        if seen is not None:
            error = Unrecoverable(f"{envelope.source} sent {envelope.id} before, with other content")
            self._bury(batch, self._new_held(batch, envelope, body, key), envelope, error)
            return
        inbox.see(batch.connection, envelope.source, envelope.id, mark, batch.now)
        self._admit(batch, envelope, body, key, is_suspect, counted=True)

    def _admit(
        self,
        batch: Batch,
        envelope: Envelope,
        body: bytes,
        key: tuple[str, str],
        is_suspect: bool,
        *,
        counted: bool = False,
    ) -> None:
        """A message is ours now: it runs at once if its lane is free, or waits in the inbox."""
        if key[1] == LOCAL and not counted:
            self._local(batch)
            self.senders[key].accepted += 1
        held = self._new_held(batch, envelope, body, key)
        if envelope.is_undo and self.closing.overtake(batch, held, envelope):
            return
        if is_suspect or not self.lanes.is_free(held.lane):
            held.is_suspect = int(is_suspect)
            self.hold(batch, held)
        elif self._is_effect(envelope):
            self._start_effect(batch, held, envelope)
        else:
            self._attempt(batch, held, envelope, body)

    def _begin(self, batch: Batch, held: Held) -> None:
        """A held message may run."""
        envelope = decode_envelope(held.body)
        if held.crashes >= retry.CRASH_LIMIT:
            error = Unrecoverable(f"the process ended {held.crashes} times while this message ran")
            self._bury(batch, held, envelope, error)
        elif self._is_effect(envelope):
            self._start_effect(batch, held, envelope)
        elif held.attempts == 0 and not held.is_suspect:
            self._attempt(batch, held, envelope, held.body)
        else:
            self.put_back(batch, held, RUNNING)
            batch.outcome.started.append(Started(held, envelope, None))

    def _start_effect(self, batch: Batch, held: Held, envelope: Envelope) -> None:
        """Commits the attempt of an async handler; it is made after the commit."""
        if envelope.is_undo and self.closing.is_needless(batch, held, envelope):
            return
        if envelope.call is not None and not envelope.is_undo and self._is_settled(batch, held, envelope):
            return
        handler = self.handler(envelope)
        if self.running[envelope.type] >= handler.spec.concurrency:
            if held.n == 0:
                self.hold(batch, held)
            # In memory only: no write for asking again until one of the running ones has ended.
            self.lanes.change(held.n, WAITING, batch.now + FULL_PAUSE_S)
            batch.wake_by(batch.now + FULL_PAUSE_S)
            return
        self.put_back(batch, held, RUNNING)
        step = self.closing.step_of(batch, envelope)
        batch.outcome.started.append(Started(held, envelope, handler, step))

    def _attempt(self, batch: Batch, held: Held, envelope: Envelope, body: bytes) -> None:
        """Handles one message within the batch; a failure undoes it alone."""
        self.conductor.checkpoint()
        try:
            with batch.savepoint():
                self._dispatch(batch, held, envelope, body)
        except Exception as err:
            if is_infrastructure(err) or not batch.connection.in_transaction:
                raise
            self.conductor.rollback()
            self._failed(batch, held, envelope, body, err)
            return
        self.done(batch, held)

    def _dispatch(self, batch: Batch, held: Held, envelope: Envelope, body: bytes) -> None:
        match envelope.kind:
            case "command" | "event":
                if envelope.call is not None and self._answer_again(batch, envelope):
                    return
                kind = self.registry.saga_started_by(self.name, envelope.type)
                if kind is not None:
                    self.conductor.start(batch, envelope, body, kind)
                else:
                    self._handle(batch, held, envelope)
            case "reply":
                self.conductor.on_reply(batch, envelope)
            case "due":
                self.conductor.on_due(batch, envelope)
            case "undo" | "close":
                self.closing.close(batch, held, envelope)
            case "subscribe":
                self.subscribing.on_subscribe(batch, envelope, self.last, self.epoch)
            case "subscribed":
                self.subscribing.on_subscribed(batch, envelope, self.senders)
            case _:
                raise Unroutable(f"{self.name} knows no messages of kind {envelope.kind!r}")

    def _handle(self, batch: Batch, held: Held, envelope: Envelope) -> None:
        """Runs a def handler; a call's answer is recorded and sent with it."""
        handler = self.handler(envelope)
        message = decode_data(envelope.data, handler.message)
        tx = self.tx(batch, envelope, held.attempts, None)
        value = handler.spec.fn(tx, message)
        tx.close()
        batch.send_all(tx.outgoing)
        self.conclude(batch, envelope, encode(value))

    def conclude(self, batch: Batch, envelope: Envelope, result: bytes) -> None:
        """Records and answers a call that was carried out, or an undo."""
        if envelope.is_undo:
            fence.put(batch.connection, envelope.undoes, "undone", batch.now)
            batch.reply(envelope, "undone", result)
        elif envelope.call is not None:
            fence.put(batch.connection, envelope.id, "done", batch.now, result)
            batch.reply(envelope, "ok", result)

    def _answer_again(self, batch: Batch, envelope: Envelope) -> bool:
        """Whether this call was carried out or closed before; then it is not executed."""
        known = fence.get(batch.connection, envelope.id)
        if known is None:
            return False
        if known.state == "done":
            batch.reply(envelope, "ok", known.result or b"null")
        return True

    def _is_settled(self, batch: Batch, held: Held, envelope: Envelope) -> bool:
        if not self._answer_again(batch, envelope):
            return False
        self.done(batch, held)
        return True

    # One message ends.

    def done(self, batch: Batch, held: Held) -> None:
        """The message is finished: it leaves the inbox and is counted."""
        self.leave(batch, held)
        key = (held.sender, held.kind)
        self.senders[key].done += 1
        batch.touched.add(key)
        if held.letter is not None:
            dead.set_state(batch.connection, held.letter, "replayed")
            self.letters -= 1
        elif self.letters:
            self._resolve_letter(batch, held)

    def _resolve_letter(self, batch: Batch, held: Held) -> None:
        """A call repeated under its id succeeded: its old dead letter has no purpose any more."""
        letter = dead.by_message(batch.connection, held.id)
        if letter is not None and letter.state == "dead":
            dead.set_state(batch.connection, letter.n, "replayed", "repeated by its saga")
            self.senders[letter.sender, letter.kind].done += 1
            batch.touched.add((letter.sender, letter.kind))
            self.letters -= 1

    def _failed(
        self, batch: Batch, held: Held, envelope: Envelope, body: bytes, error: Exception
    ) -> None:
        """The closed set of what may follow: an answer "no", a hold, another try, a dead letter."""
        match error:
            case Reject():
                batch.reply(envelope, "rejected", encode({"reason": error.reason}))
                self.done(batch, held)
                return
            case Parked():
                held.error = str(error)
                self.put_back(batch, held, HELD)
                return
        if held.n == 0 or held.state != RUNNING:
            held.attempts += 1  # a first try in its batch is counted only now, in the same commit
        took_s = batch.now - (held.started_at or batch.now)
        verdict = self._verdict(batch, held, envelope, error)
        outcome = "gave up" if isinstance(verdict, retry.GiveUp) else f"again in {verdict.delay_s:.2f} s"
        name = f"{type(error).__name__}: {error}"
        inbox.fail_attempt(
            batch.connection, held.id, batch.now, took_s, outcome, name, where(error)
        )
        held.error = name
        if isinstance(verdict, retry.RetryIn):
            self.put_back(batch, held, WAITING, batch.now + verdict.delay_s)
            batch.note("attempt_failed", id=held.id, attempt=held.attempts, error=name)
        elif self._moves_saga(envelope) and not isinstance(error, (Undecodable, Unroutable)):
            self._stick(batch, held, envelope, body, error)
        else:
            self._bury(batch, held, envelope, error)

    def _verdict(
        self, batch: Batch, held: Held, envelope: Envelope, error: Exception
    ) -> retry.Verdict:
        if isinstance(error, (Undecodable, Unroutable, Unrecoverable, CodeChanged)):
            return retry.GiveUp(str(error))
        budget_s = None
        if envelope.is_undo:
            policy, budget_s = retry.PATIENT, retry.PATIENT_BUDGET_S
        elif self._moves_saga(envelope):
            policy = self._saga_policy(batch, envelope)
        else:
            handler = self.registry.handler(self.name, envelope.type)
            policy = handler.spec.policy if handler is not None else retry.Policy()
        return retry.decide(
            policy,
            held.attempts,
            self.chance(),
            spent_s=batch.now - held.at,
            budget_s=budget_s,
            after_s=error.after_s if isinstance(error, Retry) else None,
        )

    def _saga_policy(self, batch: Batch, envelope: Envelope) -> retry.Policy:
        kind = self._starts(envelope)
        if kind is None:
            row = journal.get_saga(batch.connection, envelope.correlationid or "")
            kind = None if row is None else self.registry.saga_named(self.name, row.name)
        return kind.spec.policy if kind is not None else retry.Policy(attempts=3)

    def _stick(
        self, batch: Batch, held: Held, envelope: Envelope, body: bytes, error: Exception
    ) -> None:
        """A bug in saga code never compensates an order: the message is held, the saga stands."""
        saga_id = self.conductor.stick_on_bug(batch, envelope, body, self._starts(envelope), error)
        if saga_id is None:
            self._bury(batch, held, envelope, error)
        else:
            held.error = saga_id
            self.put_back(batch, held, HELD)

    def _bury(self, batch: Batch, held: Held, envelope: Envelope, error: Exception) -> None:
        """The message becomes a dead letter: whole, visible, and told to whoever waits for it."""
        handler = self.registry.handler(self.name, envelope.type)
        handler_name = handler.name if handler is not None else f"{self.name}.({envelope.kind})"
        letter = Letter(
            n=held.letter or 0,
            id=held.id,
            sender=held.sender,
            kind=held.kind,
            type=envelope.type,
            key=envelope.subject,
            handler=handler_name,
            state="dead",
            attempts=held.attempts,
            failed=1,
            replays=0,
            first_at=held.at,
            at=batch.now,
            error_type=type(error).__name__,
            error=str(error),
            traceback=where(error),
            reason=None,
            body=held.body,
        )
        if held.letter is None:
            held.letter = dead.add(batch.connection, letter)
            self.letters += 1
        else:
            dead.die_again(batch.connection, letter)
        name = f"d-{held.letter}"
        if handler is not None and handler.spec.hold_key:
            self.put_back(batch, held, HELD)
        else:
            self.leave(batch, held)
        batch.note("message_died", letter=f"{self.name}/{name}", id=held.id, error=str(error))
        said = f"{type(error).__name__}: {error}"
        batch.reply(
            envelope,
            "died",
            encode({"reason": f"{self.name}/{name}: {said}", "letter": f"{self.name}/{name}"}),
        )
        self._announce(batch, letter, name, said)

    def _announce(self, batch: Batch, letter: Letter, name: str, said: str) -> None:
        """An alert is a handler; never about a letter about a letter."""
        if letter.type == MessageDeadLettered.__name__:
            return
        event = MessageDeadLettered(
            participant=self.name,
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
                id=f"{self.name}/{name}:dead@{batch.now:.3f}",
                type=MessageDeadLettered.__name__,
                source=self.name,
                time=batch.time,
                subject=letter.id,
                data=encode_raw(event),
                correlationid=letter.id,
            )
        )

    def _bury_bytes(self, batch: Batch, body: bytes, error: Undecodable) -> None:
        """What is no envelope is keyed by its hash, so that a redelivery does not add to it."""
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if dead.by_message(batch.connection, digest) is not None:
            return
        key = self._local(batch)
        self.senders[key].accepted += 1
        stub = Envelope(
            specversion="1.0", id=digest, type="(undecodable)", source="?", time=batch.time
        )
        self._bury(batch, self._new_held(batch, stub, body, key), stub, error)

    # Rows of the inbox and their image in memory.

    def _new_held(
        self, batch: Batch, envelope: Envelope, body: bytes, key: tuple[str, str]
    ) -> Held:
        sender, kind = key
        subject = envelope.subject
        # Without a key there is no order to keep: each message has a lane of its own.
        own = envelope.source if kind == LOCAL else sender
        lane = f"{own}|{kind}#{envelope.id}" if subject is None else f"{own}|{kind}|{subject}"
        return Held(
            n=0,
            lane=lane,
            id=envelope.id,
            sender=sender,
            kind=kind,
            type=envelope.type,
            key=subject,
            state=WAITING,
            is_suspect=0,
            attempts=0,
            crashes=0,
            letter=None,
            at=batch.now,
            due_at=batch.now,
            started_at=None,
            error=None,
            body=body,
        )

    def hold(self, batch: Batch, held: Held, before: int | None = None) -> None:
        """Writes a new row, at the end of its lane or before another."""
        held.n = inbox.add(batch.connection, held)
        if held.state == WAITING:
            batch.wake_by(held.due_at)
        slot = Slot(held.n, held.lane, held.state, held.due_at, bool(held.is_suspect))
        self.lanes.add(slot, before=before)

    def put_back(
        self, batch: Batch, held: Held, state: str, due_at: float | None = None
    ) -> None:
        """Gives a message a state in the inbox, new there or not; RUNNING begins an attempt."""
        self._count_running(held, -1)
        if state == RUNNING:
            held.attempts += 1
            held.started_at = batch.now
        held.state = state
        self._count_running(held, 1)
        held.due_at = held.due_at if due_at is None else due_at
        if held.n == 0:
            self.hold(batch, held)
            return
        if state == WAITING:
            batch.wake_by(held.due_at)
            held.is_suspect = 0
            self.lanes.clear_suspicion(held.n)
        inbox.save(batch.connection, held)
        self.lanes.change(held.n, state, held.due_at)

    def _count_running(self, held: Held, by: int) -> None:
        if held.state == RUNNING:
            self.running[held.type] += by

    def leave(self, batch: Batch, held: Held) -> None:
        if held.n:
            self._count_running(held, -1)
            inbox.remove(batch.connection, held.n)
            if self.lanes.remove(held.n):
                batch.wake_by(batch.now)

    def _local(self, batch: Batch) -> tuple[str, str]:
        key = ("*", LOCAL)
        self.senders.setdefault(key, Sender(0, 0, 0, 0))
        batch.touched.add(key)
        return key

    def _next_due(self, connection: Connection) -> float:
        """When the next held message, timer or delayed send falls due."""
        found = (
            self.lanes.next_due(),
            timers.next_due(connection),
            outbox.next_due(connection),
        )
        return min((at for at in found if at is not None), default=NEVER)

    def _reload(self, connection: Connection) -> None:
        self._rollbacks_seen = self._rollbacks()
        self.lanes = Lanes()
        self.running.clear()
        for held in inbox.everything(connection):
            if held.state == RUNNING:
                self.running[held.type] += 1
            slot = Slot(held.n, held.lane, held.state, held.due_at, bool(held.is_suspect))
            self.lanes.add(slot)
        self.senders = inbox.senders(connection)
        self.last = outbox.last_numbers(connection)
        self.letters = dead.count_open(connection)
        self.epoch = meta.get(connection, "epoch") or 0
        self.subscribing.reload(connection)
        self.conductor.reload(connection)

    # What a message is.

    def handler(self, envelope: Envelope) -> Handler:
        handler = self.registry.handler(self.name, envelope.type)
        if handler is None:
            near = self.registry.nearest(envelope.type)
            raise Unroutable(
                f"{self.name} has no handler for {envelope.type}"
                + (f"; did you mean {near}?" if near and near != envelope.type else "")
            )
        return handler

    def _is_effect(self, envelope: Envelope) -> bool:
        if envelope.kind not in ("command", "event", "undo"):
            return False
        handler = self.registry.handler(self.name, envelope.type)
        return handler is not None and handler.is_effect

    def _starts(self, envelope: Envelope) -> SagaKind | None:
        if envelope.kind not in ("command", "event"):
            return None
        return self.registry.saga_started_by(self.name, envelope.type)

    def _moves_saga(self, envelope: Envelope) -> bool:
        return envelope.kind in ("reply", "due") or self._starts(envelope) is not None

    def tx(self, batch: Batch, envelope: Envelope, attempt: int, step: Step | None) -> Tx:
        return Tx(
            batch.connection, self.name, envelope, batch.now, attempt=max(1, attempt), step=step
        )

    def _own(self, batch: Batch, message_id: str, kind: str, saga_id: str, pos: int) -> Envelope:
        return Envelope(
            specversion="1.0",
            id=message_id,
            type=kind,
            source=self.name,
            time=batch.time,
            subject=saga_id,
            kind=kind,
            correlationid=saga_id,
            call=pos,
        )
