"""``outboxd run --ui``: the runtime as a process of its own, and the dashboard in this one.

They share no event loop, so that neither can hold up the other; they meet in the files.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import click

from outboxd.datadir import is_claimed
from outboxd.monitor import Monitor

from . import exits
from .ui import check, show

START_S = 30.0
POLL_S = 0.05
OUTPUT = Path("log") / "run.out"
"""What the runtime says while the dashboard has the terminal."""


def run_beside(arguments: Sequence[str], data: Path) -> int:
    """Starts ``outboxd run`` with these arguments, shows the dashboard, and ends both or one.

    Returns the runtime's exit code.
    """
    check()
    if is_claimed(data):
        raise exits.Usage(f"outboxd runs on {data} already", "outboxd ui shows it")
    output = data / OUTPUT
    for folder in (data, output.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with output.open("wb") as file:
        child = _started(arguments, file)
        try:
            if _is_up(child, data):
                return _shown(child, data, output)
        finally:
            _ended(child)
    click.echo(output.read_text(errors="replace"), err=True, nl=False)
    return child.returncode or exits.FAILED


def _started(arguments: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a process group of its own: a Ctrl-C in this terminal is for the dashboard."""
    return subprocess.Popen(
        [sys.executable, "-m", "outboxd", "run", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,
    )


def _is_up(child: subprocess.Popen[bytes], data: Path) -> bool:
    """Waits until the runtime has its data directory; False if it ended instead."""
    ends_at = time.monotonic() + START_S
    while child.poll() is None and time.monotonic() < ends_at:
        if is_claimed(data) and any(data.glob("*.db")):
            with Monitor(data) as monitor:
                if monitor.daemon().state != "down":
                    return True
        time.sleep(POLL_S)
    return False


def _shown(child: subprocess.Popen[bytes], data: Path, output: Path) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        left = show(data, read_only=False, is_plain=False, is_parent=True)
    except SystemExit:
        left = "stop"
    except exits.Stop:  # the traceback is on the screen; the work need not end with the view
        click.echo("the dashboard failed", err=True)
        left = "view"
    if left == "view" and child.poll() is None:
        click.echo("outboxd goes on in this terminal; Ctrl-C stops it", err=True)
        _wait(child)
    else:
        click.echo("stopping outboxd", err=True)
    code = _ended(child)
    click.echo(output.read_text(errors="replace"), nl=False)
    return code


def _leave(number: int, frame: FrameType | None) -> None:
    """The terminal is gone, or somebody ends us: the runtime must not be left behind."""
    raise SystemExit(exits.DONE)


def _wait(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait()
    except (KeyboardInterrupt, SystemExit):
        return


def _ended(child: subprocess.Popen[bytes]) -> int:
    """Stops the runtime, which finishes what it has in hand; a second Ctrl-C stops it at once."""
    if child.poll() is None:
        child.terminate()
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        return child.wait()
