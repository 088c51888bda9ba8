"""How much of one stream may lie in the broker: a receiver that is away fills no memory there.

Pure. What is published and not yet accepted is bounded; the rest waits in the outbox.
"""

from __future__ import annotations

from collections import deque

MOST = 10_000
"""Entries: many batches of a receiver, so that it never waits for the sender."""

MOST_BYTES = 16 * 1024 * 1024
"""So that a dozen receivers that are away do not fill an embedded broker of 256 MB."""


class Window:
    """What of one stream is on its way: (number, bytes) of each entry, in order."""

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def room(self, accepted: int, published: int) -> int:
        """How many entries may follow, where that much is accepted and published by now."""
        while self._sent and self._sent[0][0] <= accepted:
            self._bytes -= self._sent.popleft()[1]
        while self._sent and self._sent[-1][0] > published:  # it is to be published again
            self._bytes -= self._sent.pop()[1]
        return max(0, MOST - (published - accepted)) if self._bytes < MOST_BYTES else 0

    def sent(self, seq: int, size: int) -> None:
        """The next entry sets out."""
        self._sent.append((seq, size))
        self._bytes += size
