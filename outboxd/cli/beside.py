"""``outboxd run --ui``: the runtime, the dashboard, and this process, which waits for both.

They share nothing but the files and the terminal. Whichever of the two dies, the other goes on; and
whatever became of the dashboard, this one puts the terminal right and says how to go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import click

from outboxd.datadir import is_claimed
from outboxd.monitor import Monitor

from . import exits
from .ui import STOP, check

START_S = 30.0
POLL_S = 0.05
OUTPUT = Path("log") / "run.out"
"""What the runtime says while the dashboard has the terminal."""

_RESET = (
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l"  # mouse, paste
    "\x1b[<u\x1b[?1049l\x1b[?7h\x1b[?25h\x1b[0m"  # keyboard, screen, wrapping, cursor, colours
)
"""Undoes what a dashboard has asked of a terminal and had no time to take back."""


def run_beside(arguments: Sequence[str], data: Path, looks: Sequence[str] = ()) -> int:
    """Starts ``outboxd run`` with these arguments and ``outboxd ui`` with ``looks``; ends both or
    one.

    Returns the runtime's exit code.
    """
    check()
    if is_claimed(data):
        raise exits.Usage(f"outboxd runs on {data} already", "outboxd ui shows it")
    output = data / OUTPUT
    for folder in (data, output.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with output.open("wb") as file:
        runtime = _started(arguments, file)
        try:
            if _is_up(runtime, data):
                return _shown(runtime, data, output, looks)
        finally:
            _ended(runtime)
    click.echo(output.read_text(errors="replace"), err=True, nl=False)
    return runtime.returncode or exits.FAILED


def _started(arguments: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a process group of its own: a Ctrl-C in this terminal is for the dashboard."""
    return subprocess.Popen(
        [sys.executable, "-m", "outboxd", "run", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,
    )


def _is_up(runtime: subprocess.Popen[bytes], data: Path) -> bool:
    """Waits until the runtime has its data directory; False if it ended instead."""
    ends_at = time.monotonic() + START_S
    while runtime.poll() is None and time.monotonic() < ends_at:
        if is_claimed(data) and any(data.glob("*.db")):
            with Monitor(data) as monitor:
                if monitor.daemon().state != "down":
                    return True
        time.sleep(POLL_S)
    return False


def _shown(runtime: subprocess.Popen[bytes], data: Path, output: Path, looks: Sequence[str]) -> int:
    """The dashboard until it is left, then the runtime until that ends; its exit code.

    SIGTERM ends both, and so does a terminal that goes away: who wants more has ``outboxd run``.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        left = _watched(data, looks)
        if left and runtime.poll() is None:
            _say(f"{left}; outboxd goes on here (pid {runtime.pid}), Ctrl-C stops it")
            _say(f"outboxd ui --data {data} shows it again, in any terminal")
            runtime.wait()
    except (KeyboardInterrupt, SystemExit):
        pass
    if runtime.poll() is None:
        _say("stopping outboxd")
    code = _ended(runtime)
    with contextlib.suppress(OSError):
        click.echo(output.read_text(errors="replace"), nl=False)
    if code < 0:
        _say(f"outboxd was ended by {signal.Signals(-code).name}; nothing committed is lost")
        return exits.FAILED
    return code


def _watched(data: Path, looks: Sequence[str]) -> str:
    """Shows the dashboard; how it was left, or "" if outboxd shall be stopped with it."""
    command = [sys.executable, "-m", "outboxd", "ui", "--data", str(data), "--beside"]
    with _terminal_kept():
        view = subprocess.Popen([*command, *looks])
        try:
            code = view.wait()
        except (KeyboardInterrupt, SystemExit):
            view.terminate()
            view.wait()
            raise
    if code == STOP:
        return ""
    if code < 0:
        return f"the dashboard was ended by {signal.Signals(-code).name}"
    return "the dashboard failed" if code else "the dashboard is closed"


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """The terminal afterwards as it was before, even if the dashboard was killed."""
    import termios

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file) if os.isatty(file) else None
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError, termios.error):  # it may be gone
                if termios.tcgetattr(file) != before:
                    sys.stdout.write(_RESET)
                    sys.stdout.flush()
                    termios.tcsetattr(file, termios.TCSANOW, before)


def _leave(number: int, frame: FrameType | None) -> None:
    """The terminal is gone, or somebody ends us: the runtime must not be left behind."""
    raise SystemExit(exits.DONE)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody is there to read it
        click.echo(text, err=True)


def _ended(runtime: subprocess.Popen[bytes]) -> int:
    """Stops the runtime, which finishes what it has in hand; a second Ctrl-C stops it at once."""
    if runtime.poll() is None:
        runtime.terminate()
    try:
        return runtime.wait()
    except KeyboardInterrupt:
        runtime.send_signal(signal.SIGINT)
        return runtime.wait()
