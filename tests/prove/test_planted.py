"""Designs that are wrong on purpose are found out, briefly told; put right, they are left alone."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import pytest

from outboxd.prove import report, session
from tests.prove import planting

LONGEST_S = 10.0
"""Of this process: a machine that is busy with other things is no reason to fail."""

LONGEST_STORY = 45

PLANTED = {
    "call_in_saga": ("touches the world outside", "socket.sendto", "use an async handler"),
    "counted_charges": (
        "the world outside",
        "the bank charged order o-1 2 times",
        "answer is lost",
    ),
    "early_no_return": ("fails again and again", "rejected: out of stock", "an operator retries"),
    "expired_hold": ("every ticket has its seat", "ada has a ticket and no seat", "Expire ada"),
    "file_in_transaction": ("touches the world outside", "opens 'invoice-o-1.txt' for writing"),
    "fresh_key": ("with another idempotency key", "its answer is lost", "acts outside: 'charge'"),
    "global_counter": ("is not deterministic", "the journal has call Pack", "call Gift"),
    "keyless_undo": ("without an idempotency key", "pass ctx.idempotency_key on", "undo of"),
    "late_undo": ("every order ended", "neither completed nor failed"),
    "lost_update": ("the sum of the purchases", "ada has 10 points and bought for 20"),
    "missing_undo": ("what is reserved is paid", "holds stock that nobody paid"),
    "no_as_error": ("became the dead letter", "UNIQUE constraint failed: seat.seat", "ada-2"),
    "other_key": ("every account has its first deposit", "OpenAccount ada: its handler fails"),
    "oversell": ("never sold below zero", "mug: -1 are free", "reads Take o-1-2"),
    "polls_for_ever": ("no end after", "await_payment/o-1 is running", "further lines", "IsPaid"),
    "released_key": ("every account has its first deposit", "fails until somebody fixes it"),
    "retry_loop": ("charged at most once", "order o-1 was charged 2 times", "is away until"),
    "sleeps_for_years": ("nothing would happen before 3650 days", "is running at sleep"),
    "swept_hold": (
        "every ticket has its seat",
        "hall fires its schedule sweep",
        "runs the schedule",
    ),
    "timeout_as_failure": ("charged at one bank only", "charged at both banks", "is away until"),
    "told_twice": ("an order is one parcel", "reads Pack o-1", "reads Paid o-1"),
    "two_streams": ("every user is welcomed", "reads Welcome ada", "reads SignedUp ada"),
    "undo_in_except": ("a room and a seat, or neither", "an operator cancels"),
    "undo_without_step": ("the undo FreeRoom fails again and again", "no room for t-1"),
    "wall_clock": ("is not deterministic", "call Pay with other content"),
}
"""Name of the design → the rule that is violated, and words that let a reader understand."""


def test_every_planted_design_is_tried() -> None:
    folder = Path(__file__).with_name("planted")
    assert {path.stem for path in folder.glob("*.py")} == PLANTED.keys()
    for name in PLANTED:
        assert (inspect.getdoc(planting.planted(name)) or "").startswith("Wrong: ")


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_design_is_found_soon_with_few_failures_and_a_short_story(name: str) -> None:
    rule, *words = PLANTED[name]
    registry = planting.wrong(planting.planted(name))
    began = time.process_time()
    proof = session.prove(registry, settings=session.Settings(faults=2, random_s=2.0))
    took_s = time.process_time() - began
    assert proof.found is not None
    lines = report.violation(proof.found)
    told = "\n".join(lines)
    assert rule in proof.found.rule, told
    assert len(proof.found.plan) <= 2, told
    assert took_s < LONGEST_S
    assert len(lines) <= LONGEST_STORY, told
    assert not [word for word in words if word not in told], told


@pytest.mark.parametrize("name", PLANTED)
def test_the_same_design_put_right_is_left_alone(name: str) -> None:
    registry = planting.right(planting.planted(name))
    proof = session.prove(registry, settings=session.Settings(faults=1, random_s=0.1))
    assert proof.found is None, "\n".join(report.violation(proof.found))
    assert all(part.tally.is_complete for part in proof.parts)
