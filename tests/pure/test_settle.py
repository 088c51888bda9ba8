"""Numbers: what a receiver takes and a sender may forget; each rule alone.

All rules at once: test_settle_model.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.settle import (
    HOLE_PAUSE_S,
    QUIET_CAP_S,
    QUIET_S,
    Progress,
    Receipt,
    Report,
    fill_hole,
    is_quiet,
    lost_broker,
    note,
    receive,
    resend_tail,
)

EPOCH = 7


def report(accepted: int, *, epoch: int = EPOCH, has_hole: bool = False) -> Report:
    return Report(epoch, accepted, has_hole)


def under_way(published: int = 10, accepted: int = 0) -> Progress:
    return Progress(last=max(10, published), published=published, accepted=accepted)


@pytest.mark.parametrize(
    ("known", "epoch", "seq", "receipt"),
    [
        (None, EPOCH, 1, Receipt.TAKE),
        (None, EPOCH, 2, Receipt.HOLE),
        ((EPOCH, 0), EPOCH, 1, Receipt.TAKE),
        ((EPOCH, 5), EPOCH, 6, Receipt.TAKE),
        ((EPOCH, 5), EPOCH, 5, Receipt.DUPLICATE),
        ((EPOCH, 5), EPOCH, 1, Receipt.DUPLICATE),
        ((EPOCH, 5), EPOCH, 7, Receipt.HOLE),
        ((EPOCH, 5), EPOCH - 1, 6, Receipt.UNKNOWN_EPOCH),
        ((EPOCH, 5), EPOCH + 1, 1, Receipt.UNKNOWN_EPOCH),
        ((EPOCH, 5), EPOCH + 1, 5, Receipt.UNKNOWN_EPOCH),
    ],
)
def test_a_receiver_judges_an_entry_by_what_it_holds(
    known: tuple[int, int] | None, epoch: int, seq: int, receipt: Receipt
) -> None:
    assert receive(known, epoch, seq) is receipt


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_only_the_next_number_is_taken(accepted: int, seq: int) -> None:
    receipt = receive((EPOCH, accepted), EPOCH, seq)
    assert (receipt is Receipt.TAKE) is (seq == accepted + 1)
    assert (receipt is Receipt.DUPLICATE) is (seq <= accepted)


def test_the_slowest_receiver_settles() -> None:
    progress = under_way()
    assert not note(progress, EPOCH, [report(7), report(3), report(9)], now=1.0)
    assert (progress.accepted, progress.moved_at) == (3, 1.0)


@pytest.mark.parametrize("unheard", [None, report(9, epoch=EPOCH - 1), report(9, epoch=EPOCH + 1)])
def test_a_receiver_that_said_nothing_of_this_epoch_settles_nothing(unheard: Report | None) -> None:
    progress = under_way(accepted=2)
    note(progress, EPOCH, [report(7), unheard], now=1.0)
    assert (progress.accepted, progress.moved_at) == (2, 0.0)


def test_without_receivers_what_is_published_is_settled() -> None:
    progress = under_way(published=6)
    assert not note(progress, EPOCH, [], now=1.0)
    assert progress.accepted == 6
    assert not progress.is_settled


def test_an_old_report_takes_nothing_back() -> None:
    progress = under_way(accepted=5)
    note(progress, EPOCH, [report(3)], now=1.0)
    assert (progress.accepted, progress.moved_at) == (5, 0.0)


def test_a_receiver_may_be_ahead_of_what_the_sender_knows_to_be_published() -> None:
    """After a restart the sender believes only its outbox; the receivers know better."""
    progress = under_way(published=2)
    note(progress, EPOCH, [report(8)], now=1.0)
    assert (progress.published, progress.accepted) == (8, 8)


def test_all_is_settled_when_every_receiver_holds_the_last_number() -> None:
    progress = under_way()
    note(progress, EPOCH, [report(10), report(10)], now=1.0)
    assert progress.is_settled


@pytest.mark.parametrize(
    ("reports", "has_hole"),
    [
        ([report(3, has_hole=True)], True),
        ([report(9), report(3, has_hole=True)], True),
        ([report(10, has_hole=True)], False),
        ([report(3, has_hole=True, epoch=EPOCH + 1)], False),
        ([report(3)], False),
    ],
)
def test_a_hole_counts_while_something_published_is_missing(
    reports: list[Report], has_hole: bool
) -> None:
    assert note(under_way(), EPOCH, list(reports), now=1.0) is has_hole


def test_a_hole_is_filled_from_what_is_accepted_and_once_per_pause() -> None:
    progress = under_way(accepted=4)
    assert fill_hole(progress, now=10.0)
    assert (progress.published, progress.moved_at) == (4, 10.0)
    progress.published = 10
    assert not fill_hole(progress, now=10.0 + HOLE_PAUSE_S * 0.9)
    assert progress.published == 10
    assert fill_hole(progress, now=10.0 + HOLE_PAUSE_S)


def test_a_lost_broker_gets_everything_that_is_not_accepted() -> None:
    progress = under_way(accepted=4)
    lost_broker(progress, now=3.0)
    assert (progress.published, progress.moved_at) == (4, 3.0)


@pytest.mark.parametrize(
    ("published", "accepted", "now", "quiet"),
    [
        (10, 4, QUIET_S, True),
        (10, 4, QUIET_S - 0.01, False),
        (10, 10, 1000.0, False),
        (4, 4, 1000.0, False),
    ],
)
def test_a_stream_is_quiet_when_its_number_stands_still_and_more_was_published(
    published: int, accepted: int, now: float, quiet: bool
) -> None:
    assert is_quiet(under_way(published, accepted), now) is quiet


def test_the_pauses_between_tails_double_up_to_a_cap() -> None:
    progress = under_way(accepted=4)
    pauses = []
    for _ in range(8):
        pauses.append(progress.quiet_s)
        resend_tail(progress, now=5.0)
        assert (progress.published, progress.moved_at) == (4, 5.0)
    assert pauses[:4] == [QUIET_S, QUIET_S * 2, QUIET_S * 4, QUIET_S * 8]
    assert pauses[-1] == QUIET_CAP_S


def test_progress_makes_a_sender_hopeful_again() -> None:
    progress = under_way(accepted=4)
    resend_tail(progress, now=5.0)
    note(progress, EPOCH, [report(5)], now=6.0)
    assert progress.quiet_s == QUIET_S
