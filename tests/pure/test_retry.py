"""Retries: the waits grow to a cap, chance spreads them, and both budgets end them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.retry import PATIENT, PATIENT_BUDGET_S, GiveUp, Policy, RetryIn, decide

policies = st.builds(
    Policy,
    attempts=st.integers(1, 200),
    base_s=st.floats(0, 60),
    factor=st.floats(1, 100),
    cap_s=st.floats(0, 3600),
)
chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "ceiling_s"),
    [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 15.0), (7, 15.0), (1_000_000, 15.0)],
)
def test_the_ceiling_doubles_up_to_its_cap(attempt: int, ceiling_s: float) -> None:
    assert Policy().ceiling_s(attempt) == ceiling_s


@pytest.mark.parametrize(
    ("attempt", "chance", "delay_s"),
    [(1, 0.0, 0.0), (1, 0.5, 0.25), (2, 0.5, 0.5), (4, 0.25, 1.0), (4, 0.999, 3.996)],
)
def test_the_wait_is_a_share_of_the_ceiling(attempt: int, chance: float, delay_s: float) -> None:
    verdict = decide(Policy(), attempt, chance)
    assert isinstance(verdict, RetryIn)
    assert verdict.delay_s == pytest.approx(delay_s)


@pytest.mark.parametrize("attempt", [5, 6, 100])
def test_the_last_attempt_is_followed_by_no_other(attempt: int) -> None:
    assert decide(Policy(), attempt, 0.5) == GiveUp(f"failed {attempt} of 5 attempts")


def test_one_attempt_means_no_retry() -> None:
    assert isinstance(decide(Policy(attempts=1), 1, 0.5), GiveUp)


@pytest.mark.parametrize(("spent_s", "goes_on"), [(0.0, True), (59.9, True), (60.0, False)])
def test_a_budget_of_time_ends_the_attempts(spent_s: float, goes_on: bool) -> None:
    verdict = decide(Policy(), 1, 0.5, spent_s=spent_s, budget_s=60.0)
    assert isinstance(verdict, RetryIn) is goes_on


def test_a_spent_budget_says_how_long_it_was() -> None:
    verdict = decide(PATIENT, 400, 0.5, spent_s=90_000, budget_s=PATIENT_BUDGET_S)
    assert verdict == GiveUp("failed for 90000 s, over its budget of 86400 s")


def test_without_a_budget_time_does_not_count() -> None:
    assert isinstance(decide(Policy(), 1, 0.5, spent_s=1e9), RetryIn)


def test_the_handlers_own_wait_replaces_the_drawn_one() -> None:
    assert decide(Policy(), 1, 0.5, after_s=120.0) == RetryIn(120.0)
    assert decide(Policy(), 1, 0.5, after_s=0.0) == RetryIn(0.0)


def test_the_handlers_own_wait_does_not_lengthen_the_series() -> None:
    assert isinstance(decide(Policy(), 5, 0.5, after_s=120.0), GiveUp)


@pytest.mark.parametrize(
    ("policy", "attempt_limit_s", "budget_s"),
    [
        (Policy(), 0.0, 7.5),
        (Policy(), 10.0, 57.5),
        (Policy(attempts=1), 10.0, 10.0),
        (Policy(attempts=8), 0.0, 0.5 + 1 + 2 + 4 + 8 + 15 + 15),
    ],
)
def test_a_policy_knows_the_longest_time_it_can_take(
    policy: Policy, attempt_limit_s: float, budget_s: float
) -> None:
    assert policy.budget_s(attempt_limit_s) == budget_s


def test_the_patient_policy_outlasts_its_budget_of_a_day() -> None:
    assert PATIENT.budget_s() > PATIENT_BUDGET_S


@given(policies, chances)
def test_a_series_of_failures_ends_after_all_attempts_and_within_its_budget(
    policy: Policy, chance: float
) -> None:
    waits: list[float] = []
    for attempt in range(1, policy.attempts + 1):
        verdict = decide(policy, attempt, chance)
        if isinstance(verdict, GiveUp):
            assert attempt == policy.attempts
            break
        waits.append(verdict.delay_s)
    assert len(waits) == policy.attempts - 1
    assert sum(waits) <= policy.budget_s() + 1e-6


@given(policies, st.integers(1, 10_000), chances)
def test_a_wait_is_never_negative_nor_above_the_cap(
    policy: Policy, attempt: int, chance: float
) -> None:
    verdict = decide(policy, attempt, chance)
    if isinstance(verdict, RetryIn):
        assert 0 <= verdict.delay_s <= policy.cap_s


@given(policies, st.integers(1, 300))
def test_a_ceiling_never_falls_with_the_attempts(policy: Policy, attempt: int) -> None:
    assert policy.ceiling_s(attempt) <= policy.ceiling_s(attempt + 1)


@given(policies, st.integers(1, 300), chances, chances)
def test_a_greater_chance_never_waits_less(
    policy: Policy, attempt: int, one: float, other: float
) -> None:
    less, more = sorted((one, other))
    first, second = decide(policy, attempt, less), decide(policy, attempt, more)
    if isinstance(first, RetryIn) and isinstance(second, RetryIn):
        assert first.delay_s <= second.delay_s
    else:
        assert first == second
