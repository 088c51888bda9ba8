"""Settling against a hostile broker, which loses, repeats, reorders and forgets.

One sender and up to three receivers, each with a store that lasts; all between them may break, and
each of them may die between any two steps. In the end, once the broker behaves, every receiver has
taken every message once and in order, and at no time was a row settled that somebody did not hold.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outboxd import settle
from outboxd.settle import QUIET_CAP_S, Progress, Receipt, Report

EPOCH = 5
OLD_EPOCH = 4

picks = st.integers(0, 10_000)


class Copy(msgspec.Struct, frozen=True):
    """One entry on the stream."""

    epoch: int
    seq: int


class Group(msgspec.Struct):
    """How far a receiver's group has read (entries by position), and what it has not acked."""

    read: int = 0
    pending: list[Copy] = []


class Broker(msgspec.Struct):
    """All that a broker can lose."""

    entries: list[Copy] = []
    groups: dict[str, Group] = {}
    reports: dict[str, Report] = {}
    marker: int | None = None


class Receiver:
    """What lasts: the (epoch, accepted) of the sender, and what was taken, in order."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.known: tuple[int, int] | None = (EPOCH, since) if since else None
        self.taken: list[Copy] = []

    @property
    def accepted(self) -> int:
        return self.known[1] if self.known else 0

    def take(self, batch: list[Copy]) -> Report | None:
        """One transaction; returns what is reported after it."""
        has_hole = False
        for copy in batch:
            match settle.receive(self.known, copy.epoch, copy.seq):
                case Receipt.TAKE:
                    self.known = (copy.epoch, copy.seq)
                    self.taken.append(copy)
                    has_hole = False
                case Receipt.HOLE:
                    self.known = self.known or (copy.epoch, 0)
                    has_hole = True
                case Receipt.DUPLICATE | Receipt.UNKNOWN_EPOCH:
                    pass
        return self.report(has_hole=has_hole)

    def report(self, *, has_hole: bool = False) -> Report | None:
        return None if self.known is None else Report(*self.known, has_hole)


class SettleModel(RuleBasedStateMachine):
    """Rules are what may happen; ``outbox`` holds the numbers of the rows that are not settled."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.last = 0
        self.outbox: list[int] = []
        self.progress = Progress()
        self.expected: int | None = None
        self.mark = 0
        self.broker = Broker()
        self.snapshot = Broker()
        self.receivers: dict[str, Receiver] = {}

    @initialize(count=st.integers(1, 3))
    def receivers_subscribe(self, count: int) -> None:
        for number in range(count):
            self.receivers[f"r{number}"] = Receiver(0)

    # The sender: as the relay does it, one step at a time.

    @rule(count=st.integers(1, 6))
    def messages_are_committed(self, count: int) -> None:
        self.outbox += range(self.last + 1, self.last + count + 1)
        self.last = self.progress.last = self.last + count

    @rule(limit=st.integers(0, 5), lost=st.integers(0, 63), twice=st.integers(0, 63))
    def the_sender_publishes(self, limit: int, lost: int, twice: int) -> None:
        """The bits of ``lost`` and ``twice`` say which copies the broker drops or repeats."""
        rows = [seq for seq in self.outbox if seq > self.progress.published][:limit]
        for bit, seq in enumerate(rows):
            copies = 0 if lost >> bit & 1 else 2 if twice >> bit & 1 else 1
            self.broker.entries += [Copy(EPOCH, seq)] * copies
        self._published(rows)

    @rule(limit=st.integers(1, 5), arrived=st.integers(0, 5))
    def the_broker_does_not_answer(self, limit: int, arrived: int) -> None:
        """Some of it was published all the same; the sender cannot know and begins anew."""
        rows = [seq for seq in self.outbox if seq > self.progress.published][:limit]
        self.broker.entries += [Copy(EPOCH, seq) for seq in rows[:arrived]]
        self.expected = None
        settle.lost_broker(self.progress, self.now)

    def _published(self, rows: list[int]) -> None:
        reached = max(self.progress.published, *rows, 0)
        self.mark = max(self.mark, reached)
        found, self.broker.marker = self.broker.marker, self.mark
        if self.expected is not None and found != self.expected:
            settle.lost_broker(self.progress, self.now)
        self.expected = self.mark
        if self.progress.published == self.progress.accepted:
            self.progress.moved_at = self.now
        self.progress.published = max(self.progress.published, reached)

    @rule(is_stale=st.booleans())
    def the_sender_reads_reports(self, is_stale: bool) -> None:
        source = self.snapshot if is_stale else self.broker
        reports = [source.reports.get(name) for name in self.receivers]
        has_hole = settle.note(self.progress, EPOCH, reports, self.now)
        if has_hole and settle.fill_hole(self.progress, self.now):
            return
        if settle.is_quiet(self.progress, self.now):
            self._consider_tail()

    def _consider_tail(self) -> None:
        """A receiver that still has something to read is only slow."""
        for name in self.receivers:
            group = self.broker.groups.get(name)
            if group and (group.pending or group.read < len(self.broker.entries)):
                self.progress.moved_at = self.now
                return
        settle.resend_tail(self.progress, self.now)

    @rule()
    def the_sender_deletes_what_is_settled(self) -> None:
        self.outbox = [seq for seq in self.outbox if seq > self.progress.accepted]

    @rule()
    def the_sender_dies(self) -> None:
        """It knows again what its outbox says."""
        first = self.outbox[0] if self.outbox else self.last + 1
        self.progress = Progress(
            last=self.last, published=first - 1, accepted=first - 1, moved_at=self.now
        )
        self.expected, self.mark = None, self.last

    @rule(lost=st.integers(0, 63), twice=st.integers(0, 63))
    def the_sender_takes_a_turn(self, lost: int, twice: int) -> None:
        self.the_sender_publishes(limit=6, lost=lost, twice=twice)
        self.the_sender_reads_reports(is_stale=False)
        self.the_sender_deletes_what_is_settled()

    # The receivers.

    def _one(self, pick: int) -> str:
        return sorted(self.receivers)[pick % len(self.receivers)]

    def _group(self, name: str) -> Group:
        return self.broker.groups.setdefault(name, Group())

    @rule(pick=picks, count=st.integers(1, 6))
    def a_receiver_reads(self, pick: int, count: int) -> None:
        group = self._group(self._one(pick))
        new = self.broker.entries[group.read : group.read + count]
        group.read += len(new)
        group.pending = [*group.pending, *new]

    @rule(pick=picks, is_acked=st.booleans())
    def a_receiver_commits_what_it_read(self, pick: int, is_acked: bool) -> None:
        """Without an ack it died after its commit: what it took comes again."""
        name = self._one(pick)
        group = self._group(name)
        report = self.receivers[name].take(group.pending) if group.pending else None
        if is_acked and report is not None:
            self.broker.reports[name] = report
            group.pending = []

    @rule(pick=picks)
    def a_receiver_takes_a_turn(self, pick: int) -> None:
        self.a_receiver_reads(pick, 100)
        self.a_receiver_commits_what_it_read(pick, is_acked=True)

    @rule(pick=picks, entries=st.lists(picks, min_size=1, max_size=4))
    def entries_come_in_any_order_and_again(self, pick: int, entries: list[int]) -> None:
        name = self._one(pick)
        ever = [Copy(EPOCH, seq) for seq in range(1, self.mark + 1)]
        if ever:
            self.receivers[name].take([ever[entry % len(ever)] for entry in entries])

    @rule(pick=picks, seq=st.integers(1, 12))
    def another_copy_of_the_store_speaks(self, pick: int, seq: int) -> None:
        """One that was restored or copied: whoever knows the sender takes nothing of it."""
        receiver = self.receivers[self._one(pick)]
        if receiver.known is not None:
            receiver.take([Copy(OLD_EPOCH, seq), Copy(EPOCH + 1, seq)])

    @rule(pick=picks)
    def a_receiver_connects(self, pick: int) -> None:
        name = self._one(pick)
        report = self.receivers[name].report()
        self._group(name)
        if report is not None:
            self.broker.reports[name] = report

    @precondition(lambda self: len(self.receivers) < 3)
    @rule()
    def another_receiver_subscribes(self) -> None:
        """From now on: the row that names it is committed before any later message."""
        self.receivers[f"r{len(self.receivers)}"] = Receiver(self.last)

    # The broker.

    @precondition(lambda self: self.broker.entries)
    @rule(pick=picks)
    def the_broker_loses_an_entry(self, pick: int) -> None:
        at = pick % len(self.broker.entries)
        del self.broker.entries[at]
        for group in self.broker.groups.values():
            group.read -= at < group.read

    @precondition(lambda self: len(self.broker.entries) > 1)
    @rule(pick=picks)
    def the_broker_loses_its_tail(self, pick: int) -> None:
        del self.broker.entries[pick % len(self.broker.entries) :]
        for group in self.broker.groups.values():
            group.read = min(group.read, len(self.broker.entries))

    @rule(pick=picks)
    def the_broker_loses_a_report(self, pick: int) -> None:
        self.broker.reports.pop(self._one(pick), None)

    @rule()
    def the_broker_forgets_everything(self) -> None:
        self.broker = Broker()

    @rule()
    def a_replica_is_made(self) -> None:
        self.snapshot = copy_of(self.broker)

    @rule()
    def the_replica_takes_over(self) -> None:
        self.broker = copy_of(self.snapshot)

    @rule(by=st.sampled_from([0.1, 0.3, 1.0, 2.0, 10.0, 100.0]))
    def time_passes(self, by: float) -> None:
        self.now += by

    # What always holds, and how it ends.

    @invariant()
    def nothing_is_settled_that_somebody_does_not_hold(self) -> None:
        lowest = min((receiver.accepted for receiver in self.receivers.values()), default=0)
        assert self.progress.accepted <= lowest
        assert set(range(lowest + 1, self.last + 1)) <= set(self.outbox)

    @invariant()
    def each_receiver_has_taken_each_number_once_and_in_order(self) -> None:
        for receiver in self.receivers.values():
            numbers = range(receiver.since + 1, receiver.accepted + 1)
            assert receiver.taken == [Copy(EPOCH, seq) for seq in numbers]

    @invariant()
    def the_sender_knows_less_than_it_did(self) -> None:
        progress = self.progress
        assert 0 <= progress.accepted <= progress.published <= progress.last == self.last

    def teardown(self) -> None:
        """The broker behaves: all that is missing arrives, in a bounded number of turns."""
        for turn in range(40):
            if not self.outbox:
                break
            self._behave(turn)
        assert self.outbox == []
        assert all(receiver.accepted == self.last for receiver in self.receivers.values())
        self.each_receiver_has_taken_each_number_once_and_in_order()

    def _behave(self, turn: int) -> None:
        for name in self.receivers:
            if turn == 0:
                self.a_receiver_connects(sorted(self.receivers).index(name))
        self.the_sender_publishes(limit=1000, lost=0, twice=0)
        for pick in range(len(self.receivers)):
            self.a_receiver_reads(pick, 100_000)
            self.a_receiver_commits_what_it_read(pick, is_acked=True)
        self.the_sender_reads_reports(is_stale=False)
        self.the_sender_deletes_what_is_settled()
        self.now += QUIET_CAP_S


def copy_of(broker: Broker) -> Broker:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(broker), type=Broker)


# A failure is made small before it is shown, which takes longer than the search.
# Four times the usual search: this is what every promise about loss rests on.
SettleModel.TestCase.settings = settings(max_examples=4 * settings().max_examples)
TestSettleAgainstAHostileBroker = pytest.mark.timeout(600)(SettleModel.TestCase)
