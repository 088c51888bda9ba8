"""The only reader of time: wall clock for due times, monotonic clock for waiting."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Protocol

from .errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_S = 100 * 365 * 86400.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


class Clock(Protocol):
    """Two readings: ``now`` may jump with the wall clock, ``monotonic`` never does."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment of this boot."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class SteadyClock:
    """Wall time that does not jump: monotonic time and an offset, which is moved knowingly.

    Whoever moves the offset moves the due times that were made with it, in one transaction.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = clock.now() - clock.monotonic()

    def now(self) -> float:
        return self._clock.monotonic() + self._offset_s

    def monotonic(self) -> float:
        return self._clock.monotonic()

    @property
    def jump_s(self) -> float:
        """By how much the wall clock has moved away from this one."""
        return self._clock.now() - self.now()

    def move(self, jump_s: float) -> None:
        self._offset_s += jump_s


def utc(at: float) -> datetime:
    """The aware UTC datetime of ``at`` (seconds since the epoch)."""
    return datetime.fromtimestamp(at, UTC)


def seconds(text: str | float) -> float:
    """``"30s"``, ``"2m"``, ``"1h30m"``, ``"250ms"`` or a number, in seconds.

    Raises ConfigError for anything else.
    """
    if isinstance(text, (int, float)):
        if not abs(text) <= LONGEST_S:  # nor is "not a number"
            raise ConfigError(f"{text} seconds are no duration", hint="100 years are the most")
        return float(text)
    found = _DURATION.findall(text)
    if not found or _DURATION.sub("", text).strip():
        raise ConfigError(
            f"{text!r} is not a duration", hint="write it like 250ms, 30s, 2m, 1h30m or 7d"
        )
    return seconds(sum(float(number) * _UNITS[unit] for number, unit in found))


def in_words(span_s: float) -> str:
    """A short text for a span of time: ``0.21s``, ``41s``, ``3m``, ``2h``, ``5d``."""
    span_s = abs(span_s)
    if span_s < 10:
        return f"{span_s:.2f}s"
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "m"), (172800, 3600, "h")):
        if span_s < limit:
            return f"{span_s / divisor:.0f}{unit}"
    return f"{span_s / 86400:.0f}d"
