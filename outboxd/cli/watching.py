"""Waiting for the files to say something: a cheap look at each database, twenty times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

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
