"""Numbers, not hope: what a receiver takes, what a sender may forget, what it must publish again.

Pure. Each sender numbers what it puts on a stream without gaps. A receiver keeps one row per
sender and stream, ``accepted``: everything up to it is held in its database. Only that number
settles an outbox row. Loss is repaired by go-back-N (Tanenbaum, Computer Networks, "sliding window
protocols"): the receiver drops what lies beyond a hole and says so, the sender publishes again from
``accepted``.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

QUIET_S = 2.0
"""A stream that was read to its end while numbers are missing is published again after this."""

QUIET_CAP_S = 60.0

HOLE_PAUSE_S = 0.25
"""A receiver that reports a hole repeats itself until the gap is filled; once is enough."""


class Receipt(StrEnum):
    """What a receiver does with an entry."""

    TAKE = "take"
    DUPLICATE = "duplicate"
    HOLE = "hole"
    UNKNOWN_EPOCH = "unknown epoch"


def receive(known: tuple[int, int] | None, epoch: int, seq: int) -> Receipt:
    """Judges entry ``seq`` of ``epoch`` against ``known``, the (epoch, accepted) of its sender.

    ``None`` stands for a sender never heard of, whose numbers begin at 1.
    """
    known_epoch, accepted = known or (epoch, 0)
    if epoch != known_epoch:
        return Receipt.UNKNOWN_EPOCH
    if seq <= accepted:
        return Receipt.DUPLICATE
    return Receipt.TAKE if seq == accepted + 1 else Receipt.HOLE


class Report(msgspec.Struct, frozen=True):
    """What one receiver says of a stream: the hash field "EPOCH:ACCEPTED[:hole]"."""

    epoch: int
    accepted: int
    has_hole: bool


class Progress(msgspec.Struct):
    """A sender's view of one stream; ``moved_at`` in monotonic seconds."""

    last: int = 0
    published: int = 0
    accepted: int = 0
    moved_at: float = 0.0
    resent_at: float = float("-inf")
    quiet_s: float = QUIET_S

    @property
    def is_settled(self) -> bool:
        return self.accepted >= self.last


def note(progress: Progress, epoch: int, reports: list[Report | None], now: float) -> bool:
    """Takes in what the receivers report; returns whether one of them misses something.

    The lowest of them counts. A receiver without a report, or with one about another epoch,
    holds nothing that we know of. Without receivers, what is published is settled.
    """
    known = [r if r is not None and r.epoch == epoch else Report(epoch, 0, False) for r in reports]
    accepted = min((r.accepted for r in known), default=progress.published)
    if accepted > progress.accepted:
        progress.accepted = accepted
        progress.published = max(progress.published, accepted)
        progress.moved_at = now
        progress.quiet_s = QUIET_S
    return any(r.has_hole and r.accepted < progress.published for r in known)


def lost_broker(progress: Progress, now: float) -> None:
    """Another, an empty or a rewound broker: all that is not accepted is published again."""
    progress.published = progress.accepted
    progress.moved_at = now


def fill_hole(progress: Progress, now: float) -> bool:
    """A receiver reports a hole: publish again from ``accepted``, unless that was just done."""
    if now - progress.resent_at < HOLE_PAUSE_S:
        return False
    progress.resent_at = progress.moved_at = now
    progress.published = progress.accepted
    return True


def is_quiet(progress: Progress, now: float) -> bool:
    """Whether ``accepted`` has stood still for so long that a lost tail must be considered."""
    return progress.accepted < progress.published and now - progress.moved_at >= progress.quiet_s


def resend_tail(progress: Progress, now: float) -> None:
    """The stream is drained and the number stands still: its end was lost. Doubling pauses."""
    progress.published = progress.accepted
    progress.moved_at = now
    progress.quiet_s = min(progress.quiet_s * 2, QUIET_CAP_S)
