"""When a schedule fires: every so often, or by a cron expression in a time zone.

Pure: time comes from outside. A schedule's occurrences do not depend on when anybody looks.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from .clock import seconds, utc
from .errors import ConfigError

Missed = Literal["once", "skip", "all"]

LATE_S = 30.0
"""A firing that comes later than this was missed: nobody was there when it was due."""

CATCH_UP = 100
"""How many missed firings ``missed="all"`` makes up for, the latest ones: a bound on one commit."""

LEAST_S = 0.1
"""A shorter interval is a busy loop."""

SWAY_S = 3 * 3600.0
"""A clock that was set back by less fires nothing of a cron twice; by more, it begins anew."""


class Schedule(msgspec.Struct, frozen=True):
    """``period_s``, or ``cron`` in ``tz``; ``missed``: what becomes of missed firings.

    ``"once"`` makes up for all of them with one, ``"skip"`` for none, ``"all"`` for each.
    """

    period_s: float | None
    cron: str | None
    tz: str
    missed: Missed

    @property
    def text(self) -> str:
        """As a person reads it, and as it is stored: another text begins anew."""
        return f"every {self.period_s:g}s" if self.cron is None else f"cron {self.cron} {self.tz}"

    def after(self, at: float) -> float:
        """The next occurrence later than ``at``, for a schedule that begins there."""
        if self.period_s is not None:
            return at + self.period_s
        return self._cron(at, is_backward=False)

    def due(self, first: float, now: float) -> tuple[list[float], float]:
        """(what is to fire, in order; when the next one falls due); ``first`` is due."""
        passed, following = self._passed(first, now)
        match self.missed:
            case "all":
                return passed, following
            case "skip" if now - passed[-1] > LATE_S:
                return [], following
            case _:
                return passed[-1:], following

    def believed(self, due_at: float, now: float) -> float:
        """A stored due time, or a nearer one: the clock may have been set back meanwhile."""
        fresh = self.after(now)
        sway_s = 0.0 if self.period_s is not None else SWAY_S
        return fresh if due_at - fresh > sway_s else due_at

    def _passed(self, first: float, now: float) -> tuple[list[float], float]:
        if self.period_s is not None:
            count = int((now - first) // self.period_s) + 1
            numbers = range(max(0, count - CATCH_UP), count)
            return [first + n * self.period_s for n in numbers], first + count * self.period_s
        found: list[float] = []
        at = now + 1e-3  # strictly before this: an occurrence at this very moment counts
        while len(found) < CATCH_UP and (at := self._cron(at, is_backward=True)) >= first:
            found.append(at)
            if self.missed != "all":
                break
        return found[::-1] or [first], self._cron(now, is_backward=False)

    def _cron(self, at: float, *, is_backward: bool) -> float:
        moment = utc(at).astimezone(zone(self.tz))
        if is_backward and moment.microsecond:  # the library looks before a whole second
            moment = utc(float(int(at) + 1)).astimezone(zone(self.tz))
        assert self.cron is not None
        return next(CronSim(self.cron, moment, reverse=is_backward)).timestamp()


def zone(name: str) -> tzinfo:
    """Raises ConfigError for a time zone that is not known here."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as err:
        raise ConfigError(
            f"there is no time zone {name!r} here",
            hint='write it like "Europe/Vienna"; a system without zones needs the package tzdata',
        ) from err


def schedule(
    every: str | float | None, *, cron: str | None, tz: str | None, missed: str
) -> Schedule:
    """A checked schedule; raises ConfigError."""
    if (every is None) == (cron is None):
        raise ConfigError(
            'a schedule has an interval or a cron: every("5m"), every(cron="0 3 * * *")'
        )
    if missed not in ("once", "skip", "all"):
        raise ConfigError(f"missed={missed!r} is not known", hint='"once", "skip" or "all"')
    if cron is None:
        assert every is not None
        period_s = seconds(every)
        if period_s < LEAST_S:
            raise ConfigError(f"every({every!r}) is too often", hint="100ms is the least")
        if tz is not None:
            raise ConfigError("an interval has no time zone", hint="tz= belongs to cron=")
        return Schedule(period_s, None, "UTC", missed)  # type: ignore[arg-type]  # checked above
    found = Schedule(None, cron, tz or "UTC", missed)  # type: ignore[arg-type]  # checked above
    try:
        next(CronSim(cron, datetime(2024, 1, 1, tzinfo=zone(found.tz))))
    except (CronSimError, StopIteration) as err:
        said = str(err) or "it never comes"
        raise ConfigError(
            f"{cron!r} is no cron expression: {said}",
            hint="minute hour day month weekday, like 0 3 * * *",
        ) from err
    return found
