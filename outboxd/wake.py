"""A wake-up between tasks: by event from the one who has work, and by timeout all the same."""

from __future__ import annotations

import anyio
import anyio.lowlevel


class Wake:
    """Remembers that it was set until someone has waited for it."""

    def __init__(self) -> None:
        self._is_set = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()

    async def wait_or(self, timeout_s: float) -> bool:
        """Waits until it is set, at most ``timeout_s`` seconds; returns whether it was."""
        self._event = anyio.Event()
        if self._is_set:
            await anyio.lowlevel.checkpoint()
        else:
            with anyio.move_on_after(max(0.0, timeout_s)):
                await self._event.wait()
        was_set, self._is_set, self._event = self._is_set, False, None
        return was_set


class Outage:
    """The log of a boundary that is down: the first failure, then at most every 30 s, then the end.

    ``pause_s`` doubles up to a cap with every failure in a row.
    """

    def __init__(self, first_s: float = 0.05, cap_s: float = 2.0) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self.failures = 0

    @property
    def pause_s(self) -> float:
        return min(self._cap_s, self._first_s * 2.0 ** min(self.failures - 1, 16))

    def failed(self) -> None:
        self.failures += 1

    def is_over(self) -> bool:
        """Whether there was an outage that has now ended."""
        was_down, self.failures = self.failures > 0, 0
        return was_down
