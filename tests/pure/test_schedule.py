"""Schedules: when they fire, what is missed, and what is no schedule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from outboxd.errors import ConfigError
from outboxd.participant import Context, Participant, Tx
from outboxd.registry import Registry
from outboxd.schedule import CATCH_UP, Schedule, schedule


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def cron(text: str, tz: str | None = None, missed: str = "once") -> Schedule:
    return schedule(None, cron=text, tz=tz, missed=missed)


def every(text: str, missed: str = "once") -> Schedule:
    return schedule(text, cron=None, tz=None, missed=missed)


def test_an_interval_begins_one_interval_after_its_start_and_keeps_its_beat() -> None:
    plan = every("5m")
    assert plan.after(1000.0) == 1300.0
    assert plan.due(1300.0, 1301.5) == ([1300.0], 1600.0)


def test_a_cron_is_read_in_its_zone() -> None:
    plan = cron("0 3 * * *", "Europe/Vienna")
    assert plan.after(at("2026-01-10T12:00")) == at("2026-01-11T02:00")
    assert plan.after(at("2026-07-10T12:00")) == at("2026-07-11T01:00")
    assert cron("0 3 * * *").after(at("2026-07-10T03:00")) == at("2026-07-11T03:00")


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_time_that_summer_time_skips_or_repeats_fires_once(day: str) -> None:
    plan = cron("30 2 * * *", "Europe/Vienna")
    begin = at(f"{day}T00:00") - 7200
    first = plan.after(begin)
    assert first < at(f"{day}T12:00") < plan.after(first)


def test_missed_firings_are_made_up_for_by_one() -> None:
    assert every("10s").due(100.0, 165.0) == ([160.0], 170.0)
    plan = cron("0 3 * * *")
    fired, following = plan.due(at("2026-01-02T03:00"), at("2026-01-05T08:30"))
    assert (fired, following) == ([at("2026-01-05T03:00")], at("2026-01-06T03:00"))


def test_or_by_none_but_what_is_due_now_fires() -> None:
    assert every("1h", "skip").due(3600.0, 3600.0 * 3 + 900) == ([], 3600.0 * 4)
    assert every("1h", "skip").due(3600.0, 3600.0 * 3 + 5) == ([3600.0 * 3], 3600.0 * 4)
    assert cron("0 3 * * *", missed="skip").due(at("2026-01-02T03:00"), at("2026-01-02T03:05")) == (
        [],
        at("2026-01-03T03:00"),
    )


def test_or_each_up_to_a_bound() -> None:
    assert every("10s", "all").due(100.0, 125.0) == ([100.0, 110.0, 120.0], 130.0)
    fired, following = every("1s", "all").due(0.0, 1e6)
    assert (len(fired), fired[-1], following) == (CATCH_UP, 1e6, 1e6 + 1)
    plan = cron("* * * * *", missed="all")
    fired, following = plan.due(at("2024-01-01T00:00"), at("2026-01-01T00:00"))
    assert (len(fired), fired[-1]) == (CATCH_UP, at("2026-01-01T00:00"))
    assert following == at("2026-01-01T00:01")
    assert fired == sorted(set(fired))


def test_a_cron_fires_at_its_very_moment_and_not_again_in_the_same_minute() -> None:
    plan, first = cron("* * * * *"), at("2026-01-01T00:01")
    for late in (0.0, 0.2, 59.9):
        assert plan.due(first, first + late) == ([first], first + 60)


def test_a_clock_set_back_a_little_fires_nothing_twice_and_by_years_begins_anew() -> None:
    plan = cron("0 * * * *")
    due = at("2026-01-01T05:00")
    assert plan.believed(due, due - 7200) == due
    assert plan.believed(due, at("2025-01-01T05:30")) == at("2025-01-01T06:00")
    assert every("10s").believed(500.0, 495.0) == 500.0
    assert every("10s").believed(500.0, 100.0) == 110.0


@pytest.mark.parametrize(
    ("interval", "options", "said"),
    [
        (None, {}, "an interval or a cron"),
        ("5m", {"cron": "* * * * *"}, "an interval or a cron"),
        ("5 minutes", {}, "not a duration"),
        ("1ms", {}, "too often"),
        ("5m", {"tz": "UTC"}, "no time zone"),
        ("5m", {"missed": "never"}, "not known"),
        (None, {"cron": "0 3 * *"}, "no cron expression"),
        (None, {"cron": "0 0 30 2 *"}, "no cron expression"),
        (None, {"cron": "0 3 * * *", "tz": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
    ],
)
def test_what_is_no_schedule_is_refused(
    interval: str | None, options: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        Participant("p").every(interval, **options)  # type: ignore[arg-type]
    assert refused.value.message.startswith("p: ")
    assert said in refused.value.message


def test_a_schedule_takes_a_tx_and_has_a_name_of_its_own() -> None:
    participant = Participant("p")

    async def outside(ctx: Context) -> None: ...

    def nothing() -> None: ...

    def tick(tx: Tx) -> None: ...

    participant.every("1s")(tick)
    assert list(Registry([participant]).schedules["p"]) == ["tick"]
    participant.every("2s")(tick)
    with pytest.raises(ConfigError, match="of that name already"):
        Registry([participant])
    for wrong, said in ((outside, "must be a def"), (nothing, "one parameter")):
        other = Participant("q")
        other.every("1s")(wrong)  # type: ignore[type-var]
        with pytest.raises(ConfigError, match=said):
            Registry([other])
