"""P7, P8: an application dies in the middle of an effect; its saga is found again, and ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outboxd.monitor import audit
from tests.crash.process import Ended, Run, processes_in, wait_for
from tests.crash.till import SAGA

pytestmark = pytest.mark.timeout(200)


class Till:
    """The application of ``tests.crash.till``, one process after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "d"
        self._runs = 0

    def run(self, verb: str) -> Run:
        self._runs += 1
        command = [sys.executable, "-m", "tests.crash.till", str(self.data), verb]
        return Run(self.folder / f"words-{self._runs}", command, {})

    def charged_and_killed(self) -> None:
        """The provider has charged, its answer has not come, and nobody is there to hear it."""
        run = self.run("start")
        wait_for(lambda: len(self.ledger()) == 1, "the charge", run)
        run.says(SAGA)
        run.kill()

    def ledger(self) -> list[str]:
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def set(self, name: str) -> None:
        (self.folder / name).touch()


@pytest.fixture
def till() -> Iterator[Till]:
    folder = Path(tempfile.mkdtemp(prefix="ox"))
    yield Till(folder)
    for pid in processes_in(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_handle_is_found_again_after_a_kill_and_waits_for_the_result(till: Till) -> None:
    """The charge is asked for twice, under one key: the provider can tell."""
    till.charged_and_killed()
    till.set("go")
    done = till.run("result").ended()
    assert (done.code, done.out) == (0, "paid\n"), done
    assert till.ledger() == [f"charged {SAGA}#1"] * 2
    again = till.run("result").ended()
    assert (again.code, again.out) == (0, "paid\n"), again
    assert len(till.ledger()) == 2
    assert audit(till.data) == []


def test_an_effect_that_was_killed_in_the_middle_is_undone_and_never_made_again(
    till: Till,
) -> None:
    till.charged_and_killed()
    till.set("down")
    assert_cancelled(till.run("cancel").ended())
    ledger = [line for line in till.ledger() if line != "down"]
    assert ledger == [f"charged {SAGA}#1", "refunded False"]
    (till.folder / "down").unlink()
    till.set("go")
    assert_cancelled(till.run("result").ended())
    assert [line for line in till.ledger() if line != "down"] == ledger
    assert audit(till.data) == []


def test_an_effect_that_runs_again_after_a_kill_is_undone_with_its_result(till: Till) -> None:
    till.charged_and_killed()
    run = till.run("cancel")
    wait_for(lambda: len(till.ledger()) == 2, "the second charge", run)
    till.set("go")
    assert_cancelled(run.ended())
    assert till.ledger() == [f"charged {SAGA}#1", f"charged {SAGA}#1", "refunded True"]
    assert audit(till.data) == []


def assert_cancelled(ended: Ended) -> None:
    assert (ended.code, ended.out) == (0, "cancelled: the customer left\n"), ended
