"""One process of outboxd as a service manager sees it, and the moments at which it is struck.

Whoever waits here waits for a condition; only ``a_moment`` lets time pass by itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tests.crash.feed import ROOT

PATIENCE_S = 90.0
"""The longest wait for a condition; the machine may be busy with other things."""

LOOK_S = 0.01


class Ended(msgspec.Struct, frozen=True):
    """What a process left: its exit code and its words."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


class Run:
    """One process; its words go to files, so it never waits for a reader."""

    def __init__(self, words: Path, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._out, self._err = words.with_suffix(".out"), words.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "TERM": "dumb", **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def err(self) -> str:
        """What it has said so far."""
        return self._err.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> Ended:
        """kill -9."""
        self.process.kill()
        return self.ended()

    def ended(self) -> Ended:
        """Waits for the end."""
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {PATIENCE_S:g} s:\n{self.err}") from None
        return Ended(code, self._out.read_text(errors="replace"), self.err)

    def says(self, words: str) -> None:
        """Waits for words on stderr."""
        wait_for(lambda: words in self.err, f"{words!r} on stderr", self)


class Fate:
    """When a blow falls: drawn from a seeded generator, so that a bad moment can be found again.

    ``told``: what it was, for the message of a failure.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.told = [f"seed {seed}"]

    def __str__(self) -> str:
        return ", ".join(self.told)

    def await_start(self, run: Run, most_s: float = 1.2) -> None:
        """Some time after the start: the process opens, migrates, connects, or works already."""
        delay_s = self.rng.uniform(0.0, most_s)
        self.told.append(f"{delay_s:.3f} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(delay_s)

    def await_progress(self, run: Run, count: Callable[[], int], most: int) -> None:
        """Until ``count()`` has grown by a few, at most by ``most``, or the process has ended."""
        more = self.rng.randint(1, most)
        self.told.append(f"+{more}")
        target = count() + more
        while run.is_running and count() < target:
            a_moment(LOOK_S / 2)


def wait_for(condition: Callable[[], bool], what: str, run: Run | None = None) -> None:
    """Looks until it holds; a process that has ended will not make it hold any more."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        if run is not None and not run.is_running and not condition():
            raise AssertionError(f"{what}: the process ended before: {run.ended()}")
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {PATIENCE_S:g} s: {what}\n{run.err if run else ''}")
        a_moment(LOOK_S)


def a_moment(seconds: float) -> None:
    """The one place here where time passes by itself: between two looks."""
    threading.Event().wait(seconds)


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def processes_in(folder: Path) -> list[int]:
    """The living processes whose working directory lies in a folder: brokers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
    return [pid for pid in found if is_alive(pid)]
