"""outboxd itself, broken in one place: the simulator finds out, by its own rules.

Each mutation is a function that patches one method. Three of them do no harm: what the broker
says or shuffles decides nothing, the numbers in the databases do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from outboxd import settle
from outboxd.batch import Batch
from outboxd.book import Book
from outboxd.closing import Closing
from outboxd.conductor import Conductor
from outboxd.consumer import Consumer
from outboxd.delivery import Delivery
from outboxd.ending import Ending
from outboxd.lanes import Lanes
from outboxd.letters import Letters
from outboxd.memory_stream import Group, MemoryStream
from outboxd.message import decode_envelope
from outboxd.prove import report, session
from outboxd.registry import Registry
from outboxd.relay import Relay
from outboxd.settle import Progress, Receipt
from outboxd.store import fence, inbox, journal, outbox, timers
from outboxd.store.outbox import OutRow
from outboxd.stream import Entry
from tests.prove import errand, planting, tiny

Patch = pytest.MonkeyPatch

LONGEST_S = 10.0
"""Of this process: a machine that is busy with other things is no reason to fail."""


def takes_duplicates(patch: Patch) -> None:
    """A number that was accepted before is taken again."""
    _receiving(patch, Receipt.DUPLICATE, Receipt.TAKE)


def ignores_holes(patch: Patch) -> None:
    """What comes after a missing number is taken, and the missing one is never asked for."""
    _receiving(patch, Receipt.HOLE, Receipt.TAKE)


def _receiving(patch: Patch, judged: Receipt, mutated: Receipt) -> None:
    right = settle.receive

    def receive(known: tuple[int, int] | None, epoch: int, seq: int) -> Receipt:
        receipt = right(known, epoch, seq)
        return mutated if receipt is judged else receipt

    patch.setattr(settle, "receive", receive)


def never_fills_holes(patch: Patch) -> None:
    """The sender does nothing about a reported hole, nor about a stream that ends too early."""
    patch.setattr(settle, "fill_hole", lambda progress, now: False)
    patch.setattr(settle, "is_quiet", lambda progress, now: False)


def settles_at_publish(patch: Patch) -> None:
    """An outbox row is deleted once it is published."""

    def note(progress: Progress, epoch: int, reports: Any, now: float) -> bool:
        progress.accepted = progress.published
        return False

    patch.setattr(settle, "note", note)


def settles_at_ack(patch: Patch) -> None:
    """An outbox row is deleted once nothing of its stream is unread or pending."""

    def resend_tail(progress: Progress, now: float) -> None:
        progress.accepted = progress.published

    patch.setattr(settle, "resend_tail", resend_tail)


def reports_before_commit(patch: Patch) -> None:
    """A receiver says that it holds what it has not committed yet."""
    right = Consumer._take

    async def take(self: Consumer, entries: list[Entry], *, are_suspect: bool) -> None:
        for entry in entries:
            envelope = decode_envelope(entry.body or b"")
            kind = "events" if envelope.kind == "event" else "in"
            said = {f"{envelope.source}:{kind}": f"{envelope.epoch}:{envelope.seq}"}
            name = self._delivery.name
            await self._stream.ack(self.source, name, [entry.id], name, said)
        await right(self, entries, are_suspect=are_suspect)

    patch.setattr(Consumer, "_take", take)


def forgets_pending_entries(patch: Patch) -> None:
    """What was read and not acked before a crash is not read again."""

    async def drain_own(self: Consumer) -> None:
        return

    patch.setattr(Consumer, "drain_own", drain_own)


def publishes_without_outbox(patch: Patch) -> None:
    """What is to be sent is kept in memory only, not committed with what it speaks of."""
    right = outbox.add

    def add(connection: Any, last: dict[str, int], messages: Any, at: float) -> list[OutRow]:
        rows = right(connection, last, messages, at)
        for row in rows:
            outbox.settle(connection, [(row.stream, row.seq)])
        return rows

    patch.setattr(outbox, "add", add)


def handles_in_any_order(patch: Patch) -> None:
    """A retrying message does not hold up the next one of its key."""
    patch.setattr(Lanes, "is_free", lambda self, lane: True)


def keeps_coroutines(patch: Patch) -> None:
    """A saga whose step was not committed goes on from where its code stood."""

    def reload(self: Book, connection: Any) -> None:
        self.tally = type(self.tally)(**journal.counts(connection))

    patch.setattr(Book, "reload", reload)


def leaves_interrupted_attempts(patch: Patch) -> None:
    """After a crash what was running is left as it is."""
    patch.setattr(Delivery, "opened", lambda self, connection, *, was_clean: None)


def has_no_fences(patch: Patch) -> None:
    """A participant does not remember which calls it carried out."""
    patch.setattr(fence, "get", lambda connection, step_id: None)


def does_not_undo_timeouts(patch: Patch) -> None:
    """A call that timed out is taken for one that did nothing."""
    right = Conductor.throw

    def throw(self: Conductor, *args: Any) -> None:
        right(self, *args[:-1], False)  # type: ignore[call-arg]  # the last one: may_have_run

    patch.setattr(Conductor, "throw", throw)


def undoes_nothing_unknown(patch: Patch) -> None:
    """An effect that was interrupted is taken for one that did nothing."""
    patch.setattr(Closing, "_may_have_acted", lambda self, *args: False)


def fires_timers_early(patch: Patch) -> None:
    """Any timer fires as soon as somebody looks."""
    right = timers.due

    def due(connection: Any, now: float, limit: int, *, sleeps_only: bool) -> Any:
        return right(connection, now + 5.0, limit, sleeps_only=sleeps_only)

    def fire(self: Conductor, batch: Batch, saga_id: str, pos: int) -> bool:
        live = self.book.find(batch, saga_id)
        call = None if live is None else live.calls.get(pos)
        if call is not None:
            call.due_at = None
            self.book.save_call(batch, call)
        return call is not None

    patch.setattr(timers, "due", due)
    patch.setattr(Conductor, "fire", fire)


def never_fires_timers(patch: Patch) -> None:
    """A deadline that passes is not noticed."""
    patch.setattr(Conductor, "fire", lambda self, batch, saga_id, pos: False)


def records_no_results(patch: Patch) -> None:
    """What an effect learned is not recorded, so a retry does it again."""
    patch.setattr(inbox, "end_once", lambda connection, message_id, name, result: None)


def throws_letters_away(patch: Patch) -> None:
    """What cannot be handled is dropped."""

    def bury(self: Letters, batch: Batch, held: Any, envelope: Any, error: Exception) -> None:
        self._holding.leave(batch, held)

    patch.setattr(Letters, "bury", bury)


def keeps_failed_writes(patch: Patch) -> None:
    """What a failed attempt wrote stays."""

    @contextmanager
    def savepoint(self: Batch) -> Iterator[None]:
        yield

    patch.setattr(Batch, "savepoint", savepoint)


def takes_starts_twice(patch: Patch) -> None:
    """A message from outside that is sent again, for want of an answer, is taken again."""

    def see(connection: Any, source: str, message_id: str, mark: int, at: float) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO outboxd_seen VALUES (?, ?, ?, ?)", (source, message_id, mark, at)
        )

    patch.setattr(inbox, "seen_mark", lambda connection, source, message_id: None)
    patch.setattr(inbox, "see", see)


def begins_groups_at_the_end(patch: Patch) -> None:
    """A group that is created at ``$`` misses what is there, and strangers have no outbox."""

    async def ensure(self: MemoryStream, stream: str, group: str) -> bool:
        log = self._log(stream)
        if group in log.groups:
            return False
        log.groups[group] = Group(log.last)
        return True

    patch.setattr(MemoryStream, "ensure", ensure)


def forgets_replays(patch: Patch) -> None:
    """A letter that was replayed with success stays in the list."""
    patch.setattr(Letters, "replayed", lambda self, batch, held: None)


def leaves_gaps_in_numbers(patch: Patch) -> None:
    """A sender skips numbers: its receivers wait for messages that do not exist."""
    right = outbox.add

    def add(connection: Any, last: dict[str, int], messages: Any, at: float) -> list[OutRow]:
        for stream, _, _ in messages:
            last[stream] = last.get(stream, 0) + 1
        return right(connection, last, messages, at)

    patch.setattr(outbox, "add", add)


def undoes_what_never_ran(patch: Patch) -> None:
    """Each undo says that its step was answered, so that nobody asks whether it ran."""
    right = Ending._send

    def send(self: Ending, *args: Any) -> None:
        right(self, *args[:-1], "done")  # type: ignore[call-arg]  # the last: what became of it

    patch.setattr(Ending, "_send", send)


def ends_before_undo_is_answered(patch: Patch) -> None:
    """A saga ends while the undo of a call that timed out is still under way."""
    right = Ending.end_if_answered

    def end(self: Ending, batch: Batch, live: Any) -> None:
        live.undos = dict.fromkeys(live.undos, "done")
        right(self, batch, live)

    patch.setattr(Ending, "end_if_answered", end)


def unwinds_in_wrong_order(patch: Patch) -> None:
    """What was done first is undone first."""
    patch.setattr("outboxd.ending.reversed", list, raising=False)


NO_END = "no end after"
NOT_IN_TIME = "nothing would happen before"

BREAKING: dict[Callable[[Patch], None], str] = {
    takes_duplicates: "messages are not conserved",
    ignores_holes: "messages are not conserved",
    never_fills_holes: NO_END,
    settles_at_publish: NOT_IN_TIME,
    settles_at_ack: NO_END,
    reports_before_commit: NO_END,
    forgets_pending_entries: "something is left over",
    publishes_without_outbox: NO_END,
    handles_in_any_order: "handled messages of one key out of order",
    keeps_coroutines: NO_END,
    leaves_interrupted_attempts: NOT_IN_TIME,
    has_no_fences: "what was done was not undone",
    does_not_undo_timeouts: "what was done was not undone",
    undoes_nothing_unknown: "what was done was not undone",
    fires_timers_early: "a timer fired before its time",
    never_fires_timers: NO_END,
    records_no_results: "although its result is recorded",
    throws_letters_away: "messages are not conserved",
    keeps_failed_writes: "what is done is charged and sent once",
    takes_starts_twice: "handled one message twice",
    forgets_replays: "messages are not conserved",
    leaves_gaps_in_numbers: NO_END,
    undoes_what_never_ran: "what was not done, or should stay, was undone",
    begins_groups_at_the_end: "what was put into a stream was never taken",
    ends_before_undo_is_answered: "a saga ended before its undo was answered",
    unwinds_in_wrong_order: "what was done last was not undone first",
}
"""Mutation → the rule that it violates."""

CASTS: dict[Callable[[Patch], None], Callable[[], Registry | None]] = {
    ends_before_undo_is_answered: lambda: planting.right(planting.planted("timeout_as_failure")),
    undoes_what_never_ran: lambda: Registry(tiny.CAST),
    undoes_nothing_unknown: lambda: planting.right(planting.planted("undo_without_step")),
}
"""Where the errand is not enough (a saga that goes on after a timeout), or too much."""


@pytest.mark.parametrize("mutate", BREAKING, ids=lambda mutate: mutate.__name__)
def test_a_broken_engine_is_found_out(mutate: Callable[[Patch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        began = time.process_time()
        proof = _proved(2, 1.0, CASTS.get(mutate, lambda: None)())
        took_s = time.process_time() - began
    assert proof.found is not None
    told = "\n".join(report.violation(proof.found))
    assert BREAKING[mutate] in proof.found.rule, told
    assert len(proof.found.plan) <= 2, told
    assert took_s < LONGEST_S


def acks_before_commit(patch: Patch) -> None:
    """The broker forgets an entry before it is committed: its number brings it back."""
    right = Consumer._take

    async def take(self: Consumer, entries: list[Entry], *, are_suspect: bool) -> None:
        name = self._delivery.name
        await self._stream.ack(self.source, name, [entry.id for entry in entries], name, {})
        await right(self, entries, are_suspect=are_suspect)

    patch.setattr(Consumer, "_take", take)


def trusts_the_broker(patch: Patch) -> None:
    """A broker that lost everything is not recognised by its missing marker."""
    patch.setattr(Relay, "_check_marker", lambda self, done: None)


def publishes_backwards(patch: Patch) -> None:
    """What comes together is published the last first: what is too early comes again."""
    right = Relay._next_rows

    async def next_rows(self: Relay) -> list[OutRow]:
        return list(reversed(await right(self)))

    patch.setattr(Relay, "_next_rows", next_rows)


@pytest.mark.parametrize(
    "mutate",
    [acks_before_commit, trusts_the_broker, publishes_backwards],
    ids=lambda mutate: mutate.__name__,
)
def test_what_the_broker_says_or_shuffles_decides_nothing(mutate: Callable[[Patch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        proof = _proved(faults=1, random_s=0.5)
    assert proof.found is None, "\n".join(report.violation(proof.found))


def test_unbroken_it_holds() -> None:
    proof = _proved(faults=1, random_s=0.5)
    assert proof.found is None, "\n".join(report.violation(proof.found))


def _proved(faults: int, random_s: float, registry: Registry | None = None) -> session.Proof:
    settings = session.Settings(faults=faults, random_s=random_s)
    return session.prove(registry or Registry(errand.CAST), settings=settings)
