"""Time: durations as people write them, spans as people read them, and the machine's own clocks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.clock import SystemClock, in_words, seconds, utc
from outboxd.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("7d", 604800.0),
        ("0.5s", 0.5),
        ("  5 s ", 5.0),
        ("0s", 0.0),
        (30, 30.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_read(text: str | float, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)
    assert isinstance(seconds(text), float)


@pytest.mark.parametrize(
    "text", ["", " ", "30", "s", "-30s", "5x", "30s later", "1.2.3s", "1h30", "∞s", "1e3s", "s30"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a duration") as refused:
        seconds(text)
    assert refused.value.hint == "write it like 250ms, 30s, 2m, 1h30m or 7d"


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, secs: int, millis: int) -> None:
    text = f"{hours}h{minutes}m{secs}s{millis}ms"
    assert seconds(text) == pytest.approx(hours * 3600 + minutes * 60 + secs + millis / 1000)


@pytest.mark.parametrize(
    ("span_s", "text"),
    [
        (0, "0.00s"),
        (0.214, "0.21s"),
        (-0.214, "0.21s"),
        (10, "10s"),
        (41.4, "41s"),
        (89, "89s"),
        (90, "2m"),
        (180, "3m"),
        (5399, "90m"),
        (5400, "2h"),
        (172799, "48h"),
        (172800, "2d"),
        (432000, "5d"),
    ],
)
def test_a_span_is_told_in_one_unit(span_s: float, text: str) -> None:
    assert in_words(span_s) == text


@given(st.floats(-1e9, 1e9))
def test_every_span_is_short_to_read(span_s: float) -> None:
    assert len(in_words(span_s)) <= 7


def test_times_are_aware_and_utc() -> None:
    assert utc(0.0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert utc(0.0).utcoffset() is not None


def test_the_system_clock_reads_the_machine() -> None:
    clock = SystemClock()
    assert abs(clock.now() - datetime.now(UTC).timestamp()) < 60
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize("span", [float("nan"), float("inf"), 1e12, "99999999d"])
def test_what_never_ends_is_no_duration(span: float | str) -> None:
    with pytest.raises(ConfigError, match="no duration"):
        seconds(span)
