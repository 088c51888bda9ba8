"""What may run now: order per key among the messages that are held and not yet done.

Pure: rows come and go, time is an argument. A lane is one key of one sender; only its first row may
run, the others wait behind it. A lane without rows is free: its next message runs at once.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque

import msgspec

WAITING, RUNNING, HELD = "waiting", "running", "held"


class Slot(msgspec.Struct):
    """A held message as far as order is concerned; ``due_at`` in UTC seconds."""

    n: int
    lane: str
    state: str
    due_at: float
    is_suspect: bool = False


class Lanes:
    """The rows of one participant's inbox, by lane, with what falls due next."""

    def __init__(self) -> None:
        self._slots: dict[int, Slot] = {}
        self._lanes: dict[str, deque[int]] = {}
        self._heap: list[tuple[float, int]] = []
        self._suspects: list[int] = []
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, n: int) -> bool:
        return n in self._slots

    def is_free(self, lane: str) -> bool:
        """Whether the lane's next message may run at once."""
        return lane not in self._lanes

    def count(self, state: str) -> int:
        """How many rows are in ``state``; safe to ask from another thread."""
        return self._counts[state]

    def count_blocked(self) -> int:
        """Waiting rows behind one that is held for a person; safe to ask from another thread."""
        if not self._counts[HELD]:
            return 0
        lanes = list(self._lanes.values())  # one step for the interpreter's lock
        slots = self._slots
        held = [lane for lane in lanes if lane and (s := slots.get(lane[0])) and s.state == HELD]
        return sum(len(lane) - 1 for lane in held)

    def add(self, slot: Slot, *, before: int | None = None) -> None:
        """Puts a row at the end of its lane, or right before row ``before`` of it."""
        lane = self._lanes.setdefault(slot.lane, deque())
        if before is not None and before in lane:
            lane.insert(lane.index(before), slot.n)
        else:
            lane.append(slot.n)
        self._slots[slot.n] = slot
        self._counts[slot.state] += 1
        self._announce(slot.lane)

    def remove(self, n: int) -> bool:
        """Takes a row out; returns whether another is left in its lane, which may now run."""
        slot = self._slots.pop(n)
        self._counts[slot.state] -= 1
        lane = self._lanes[slot.lane]
        if lane[0] == n:
            lane.popleft()
        else:
            lane.remove(n)
        if lane:
            self._announce(slot.lane)
            return True
        del self._lanes[slot.lane]
        return False

    def change(self, n: int, state: str, due_at: float | None = None) -> None:
        """Gives a row another state and, when waiting, another due time."""
        slot = self._slots[n]
        self._counts[slot.state] -= 1
        self._counts[state] += 1
        slot.state = state
        if due_at is not None:
            slot.due_at = due_at
        self._announce(slot.lane)

    def clear_suspicion(self, n: int) -> None:
        self._slots[n].is_suspect = False

    def due(self, now: float, limit: int) -> list[int]:
        """The waiting first rows whose time has come, the earliest first; no suspects."""
        found: dict[int, float] = {}
        while self._heap and len(found) < limit:
            due_at, n = self._heap[0]
            if due_at > now and self._is_ready(n, due_at):
                break
            heapq.heappop(self._heap)
            if self._is_ready(n, due_at):
                found[n] = due_at
        for n, due_at in found.items():
            heapq.heappush(self._heap, (due_at, n))
        return list(found)

    @property
    def suspects(self) -> int:
        """How many are suspect and not yet examined: one pass, for the eyes of a person."""
        return sum(slot.is_suspect for slot in list(self._slots.values()))

    def suspect(self) -> int | None:
        """The next suspect that may run: one at a time, so that a crasher convicts only itself."""
        while self._suspects:
            n = self._suspects[0]
            slot = self._slots.get(n)
            if (
                slot is not None
                and slot.is_suspect
                and slot.state == WAITING
                and self._lanes[slot.lane][0] == n
            ):
                return n
            heapq.heappop(self._suspects)
        return None

    def next_due(self) -> float | None:
        """When the next row that is no suspect falls due; None if none does."""
        while self._heap:
            due_at, n = self._heap[0]
            if self._is_ready(n, due_at):
                return due_at
            heapq.heappop(self._heap)
        return None

    def _is_ready(self, n: int, due_at: float) -> bool:
        slot = self._slots.get(n)
        return (
            slot is not None
            and slot.state == WAITING
            and slot.due_at == due_at
            and not slot.is_suspect
            and self._lanes[slot.lane][0] == n
        )

    def _announce(self, lane: str) -> None:
        slot = self._slots[self._lanes[lane][0]]
        if slot.state == WAITING:
            if slot.is_suspect:
                heapq.heappush(self._suspects, slot.n)
            else:
                heapq.heappush(self._heap, (slot.due_at, slot.n))
