"""After an unclean stop: suspects run one at a time, and nothing else beside them.

If the process dies, whoever ran is to blame; so while a suspect is left in any participant, no
other message is begun, and a crasher convicts only itself.
"""

from __future__ import annotations

import anyio

LIMIT_S = 60.0
"""A suspect that hangs outside must not stop everything for ever: then work goes on beside it."""


class Quarantine:
    """Shared by all participants of the process. ``one_at_a_time`` is held while a suspect runs."""

    def __init__(self) -> None:
        self.one_at_a_time = anyio.Lock()
        self._names: set[str] = set()
        self._clear = anyio.Event()
        self._clear.set()

    def note(self, participant: str, has_suspects: bool) -> None:
        """What a participant says after each commit."""
        if has_suspects and not self._names:
            self._clear = anyio.Event()
        if has_suspects:
            self._names.add(participant)
        elif participant in self._names:
            self._names.remove(participant)
            if not self._names:
                self._clear.set()

    async def until_clear(self) -> None:
        """Waits while there are suspects."""
        if self._names:
            with anyio.move_on_after(LIMIT_S):
                await self._clear.wait()
