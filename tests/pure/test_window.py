"""The bound on what lies in the broker: entries and bytes, freed by what is accepted."""

from __future__ import annotations

import pytest

from outboxd import window
from outboxd.window import Window


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Window:
    monkeypatch.setattr(window, "MOST", 5)
    monkeypatch.setattr(window, "MOST_BYTES", 100)
    return Window()


def test_it_closes_after_so_many_entries_and_opens_with_what_is_accepted(few: Window) -> None:
    for seq in range(1, 6):
        few.sent(seq, 1)
    assert few.room(0, 5) == 0
    assert few.room(2, 5) == 2
    assert few.room(5, 5) == 5


def test_it_closes_after_so_many_bytes(few: Window) -> None:
    few.sent(1, 60)
    assert few.room(0, 1) == 4
    few.sent(2, 60)
    assert few.room(0, 2) == 0
    assert few.room(1, 2) == 4


def test_what_is_published_again_counts_once(few: Window) -> None:
    for _ in range(3):
        assert few.room(0, 0) == 5
        few.sent(1, 60)
        few.sent(2, 60)
    assert few.room(0, 2) == 0
    assert few.room(2, 2) == 5
