"""Times in narrow columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from outboxd.tui.text import ago, since, until

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "now"), (-0.9, "now"), (0.9, "now"), (4, "in 4s"), (-4, "-4s"), (600, "in 10m")],
)
def test_what_is_next(seconds: float, said: str) -> None:
    assert until(NOW + timedelta(seconds=seconds), NOW) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "just now"), (4, "4s ago"), (7200, "2h ago")])
def test_what_is_past(seconds: float, said: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == said


def test_never() -> None:
    assert (since(None, NOW), until(None, NOW)) == ("-", "-")
