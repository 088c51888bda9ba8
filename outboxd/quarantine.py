"""After an unclean stop: suspects run one at a time, and nothing else beside them.

If the process dies, whoever ran is to blame; so while a suspect is left in any participant, no
other message is begun, and a crasher convicts only itself.
"""

from __future__ import annotations

import time

import anyio

LIMIT_S = 60.0
"""A suspect that hangs outside must not stop everything for ever: then work goes on beside it."""

LEAST_S = 1.0
LOOK_S = 0.02


class Quarantine:
    """Shared by all participants of the process. ``one_at_a_time`` is held while a suspect runs."""

    def __init__(self) -> None:
        self.one_at_a_time = anyio.Lock()
        self._names: set[str] = set()
        self._ends_at = 0.0

    def note(self, participant: str, has_suspects: bool) -> None:
        """What a participant says after each commit."""
        if has_suspects and not self._names:
            self._ends_at = time.monotonic() + LIMIT_S
        if has_suspects:
            self._names.add(participant)
        else:
            self._names.discard(participant)

    @property
    def is_clear(self) -> bool:
        """Whether something else than a suspect may run."""
        return not self._names or time.monotonic() >= self._ends_at

    @property
    def left_s(self) -> float:
        """How long a suspect is waited for: never so short that it runs beside the next at once."""
        return max(LEAST_S, self._ends_at - time.monotonic())

    async def until_clear(self) -> None:
        """Waits while there are suspects."""
        while not self.is_clear:  # noqa: ASYNC110 - it also ends by time
            await anyio.sleep(LOOK_S)
