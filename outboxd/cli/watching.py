"""Waiting for the files to say something: a cheap look at each database, twenty times a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import click

from outboxd.monitor import Monitor

T = TypeVar("T")

POLL_S = 0.05


def until(monitor: Monitor, look: Callable[[], T | None], timeout_s: float) -> T | None:
    """What ``look`` finds, as soon as it finds something; None after ``timeout_s``."""
    ends_at = time.monotonic() + timeout_s
    while True:
        monitor.has_changed()
        found = look()
        if found is not None:
            return found
        while True:
            if time.monotonic() >= ends_at:
                return None
            time.sleep(POLL_S)
            if monitor.has_changed():
                break


class Standing:
    """One line on a terminal that says how far it is; nothing anywhere else."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def show(self, text: str) -> None:
        """Draws the line anew."""
        if self._is_shown:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False, color=True)

    def end(self) -> None:
        """Takes it away."""
        self.show("")
