"""When a failed attempt is made again: exponential backoff with full jitter, within a budget.

Pure: the random number comes from outside. Full jitter (a uniform draw below the exponential
ceiling) is Brooker's choice in "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015): of
the simple schemes it collides least when many messages failed at one moment.
"""

from __future__ import annotations

import msgspec

MINUTE_S = 60.0
DAY_S = 24 * 3600.0


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """``attempts`` tries in all; waits grow from ``base_s`` by ``factor`` to at most ``cap_s``."""

    attempts: int = 5
    base_s: float = 0.5
    factor: float = 2.0
    cap_s: float = 15.0

    def ceiling_s(self, attempt: int) -> float:
        """The longest wait after failed attempt number ``attempt`` (from 1)."""
        try:
            return min(self.cap_s, self.base_s * self.factor ** (attempt - 1))
        except OverflowError:
            return self.cap_s

    def budget_s(self, attempt_limit_s: float = 0.0) -> float:
        """The longest time that all attempts together can take."""
        waits = sum(self.ceiling_s(n) for n in range(1, min(self.attempts, 1000)))
        waits += self.cap_s * max(0, self.attempts - 1000)
        return waits + self.attempts * attempt_limit_s


class RetryIn(msgspec.Struct, frozen=True):
    """Try again in ``delay_s`` seconds."""

    delay_s: float


class GiveUp(msgspec.Struct, frozen=True):
    """No further attempt."""

    reason: str


Verdict = RetryIn | GiveUp

PATIENT = Policy(attempts=10_000, base_s=1.0, cap_s=5 * MINUTE_S)
"""For undo: what was done must be undone, so it is tried until PATIENT_BUDGET_S is spent."""

PATIENT_BUDGET_S = DAY_S

CRASH_LIMIT = 5
"""A message that was running at so many deaths of the process is taken for their cause."""


def decide(
    policy: Policy,
    attempt: int,
    chance: float,
    *,
    spent_s: float = 0.0,
    budget_s: float | None = None,
    after_s: float | None = None,
) -> Verdict:
    """What follows the failed attempt number ``attempt`` (from 1).

    ``chance`` is a random number in [0, 1); ``spent_s`` the seconds since the message came,
    held against ``budget_s`` if given; ``after_s`` overrides the drawn wait.
    """
    if attempt >= policy.attempts:
        return GiveUp(f"failed {attempt} of {policy.attempts} attempts")
    if budget_s is not None and spent_s >= budget_s:
        return GiveUp(f"failed for {spent_s:.0f} s, over its budget of {budget_s:.0f} s")
    return RetryIn(after_s if after_s is not None else policy.ceiling_s(attempt) * chance)
