"""P2, P4: a schedule's firings are each made once, through kill -9 at any moment around them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outboxd.monitor import audit
from tests.crash.process import Fate, Run, processes_in, wait_for

pytestmark = pytest.mark.timeout(300)

KILLS = 6

PLUGIN = """
from outboxd import Participant, Tx

ticker = Participant("ticker", schema="CREATE TABLE log (id TEXT NOT NULL) STRICT;")


@ticker.every("100ms", missed="all")
def tick(tx: Tx) -> None:
    tx.execute("INSERT INTO log VALUES (?)", (tx.message_id,))
"""


class Ticking:
    """outboxd with one schedule, one process after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "d"
        self._plugin = folder / "ticker.py"
        self._plugin.write_text(PLUGIN)
        self._runs = 0

    def run(self) -> Run:
        self._runs += 1
        words = self.folder / f"words-{self._runs}"
        command = [sys.executable, "-m", "outboxd", "run", str(self._plugin)]
        return Run(words, [*command, "--data", str(self.data)], {})

    def read(self, sql: str) -> list[str]:
        path = self.data / "ticker.db"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
            try:
                return [row[0] for row in connection.execute(sql).fetchall()]
            except sqlite3.OperationalError:  # killed before its first commit
                return []

    def count(self) -> int:
        return len(self.read("SELECT id FROM log"))


@pytest.fixture
def ticking() -> Iterator[Ticking]:
    folder = Path(tempfile.mkdtemp(prefix="ox"))
    yield Ticking(folder)
    for pid in processes_in(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_schedule_fires_neither_twice_nor_never_through_kill_9(ticking: Ticking) -> None:
    fate = Fate(7)
    for _ in range(KILLS):
        run = ticking.run()
        fate.await_progress(run, ticking.count, 8)
        run.kill()
    run = ticking.run()
    before = ticking.count()
    wait_for(lambda: ticking.count() > before + 3, "it goes on", run)
    run.signal(signal.SIGTERM)
    assert run.ended().code == 0, run.err
    (fired,) = ticking.read("SELECT fired FROM outboxd_schedule")
    waiting = ticking.read("SELECT id FROM outboxd_inbox")
    done = ticking.read("SELECT id FROM log")
    expected = {f"ticker/every/tick#{n}" for n in range(1, int(fired) + 1)}
    assert len(done) == len(set(done)), str(fate)
    assert {*done, *waiting} == expected, str(fate)
    assert audit(ticking.data) == []
