"""The watchdog ends a process whose handler does not return, and no other."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from outboxd import watchdog
from outboxd.store.connection import Busy, Database
from outboxd.watchdog import LIMIT_S, LOG_S, LOOK_S, Watchdog


class Exited(Exception):
    """The process would have ended."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    def end(code: int) -> None:
        raise Exited(code)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    store = Database(tmp_path / "shop.db")
    store.busy = Busy()
    return store


def test_a_handler_that_does_not_return_is_shown_once_and_then_ends_the_process(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    dog = Watchdog([store])
    for _ in range(int(LIMIT_S / LOOK_S)):
        dog._look(store)
    assert [record.message.split()[0] for record in caplog.records] == ["handler_hangs"]
    with pytest.raises(Exited, match=str(watchdog.EXIT_CODE)):
        dog._look(store)


def test_a_process_that_was_stopped_for_a_while_goes_on(store: Database) -> None:
    dog = Watchdog([store])
    assert store.busy is not None
    store.busy.since -= 10 * LIMIT_S  # as the clock says after that
    dog._look(store)
    assert dog._seen == {"shop.db": (store.busy.since, 1)}


def test_one_message_after_another_is_no_hanging_handler(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    dog = Watchdog([store])
    for n in range(int(3 * LIMIT_S / LOOK_S)):
        if n % (int(LOG_S / LOOK_S) - 1) == 0:
            store.busy = Busy()
        dog._look(store)
    assert caplog.records == []
