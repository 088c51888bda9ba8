"""One process per participant and broker: a copy of a data directory is found out.

Another data directory shows by its store id, another process on the same one by the lock. A copy
has the same id and a lock of its own; beside the original it would take its messages. So a process
says beside the marker, a few times a second, that it is here. Whoever starts and finds that of
another process looks for a moment whether it moves: if it does, the other one lives. What a killed
process has said stands still; and if it was on this machine, its pid tells at once that it is gone.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio

from .errors import Refused, Unavailable
from .stream import Stream

BEAT_S = 0.4
WATCH_S = 1.5
"""A process that lives beats some times in this; a busy one at least once."""

LEAVE_S = 1.0


class Tenancy:
    """This process, as it shows itself at the broker for the participants ``names``."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._token = f"{_place()} {os.getpid()} {uuid.uuid4().hex[:12]}"
        self._beats = 0
        self._others: dict[str, tuple[str, float]] = {}

    async def take(self, stream: Stream) -> None:
        """Returns once nobody else is here. Raises Refused where another process lives."""
        self._others.clear()
        while await self._others_are_here(stream):  # noqa: ASYNC110 - it asks the broker
            await anyio.sleep(BEAT_S / 4)
        await self._beat(stream)

    async def run(self, stream: Stream) -> None:
        """Beats until cancelled. Raises Refused when another process beats as well.

        Whoever comes last stays: it has looked for the others before it came.
        """
        while True:
            await anyio.sleep(BEAT_S)
            try:
                if not await self._others_are_here(stream):
                    await self._beat(stream)
            except Unavailable:
                self._others.clear()

    async def leave(self, stream: Stream) -> None:
        """A clean end: whoever starts next has nothing to wait for."""
        with suppress(Unavailable), anyio.move_on_after(LEAVE_S):
            said = await stream.tenants(self._names)
            mine = [name for name in self._names if self._is_mine(said.get(name))]
            await stream.set_tenants(dict.fromkeys(mine))

    async def _others_are_here(self, stream: Stream) -> bool:
        """Whether another process may be; one that stands still is of the past.

        A replica of the broker may bring the past back. Raises Refused for one that moves.
        """
        now, said = anyio.current_time(), await stream.tenants(self._names)
        seen: dict[str, tuple[str, float]] = {}
        for name, found in said.items():
            if self._is_mine(found) or _is_gone(found):
                continue
            before, since = self._others.get(name, (found, now))
            if before != found:
                raise _refusal(name)
            seen[name] = (found, since)
        self._others = seen
        return any(now - since < WATCH_S for _, since in seen.values())

    async def _beat(self, stream: Stream) -> None:
        self._beats += 1
        await stream.set_tenants(dict.fromkeys(self._names, f"{self._token} {self._beats}"))

    def _is_mine(self, said: str | None) -> bool:
        return (said or "").startswith(f"{self._token} ")


def _refusal(name: str) -> Refused:
    return Refused(
        f"another process hosts the participant {name} on this broker, from a copy of this data "
        "directory",
        hint="stop one of them; a copy that is to run beside it needs a broker of its own",
    )


def _place() -> str:
    """Where a pid means something: this boot of this machine, and the namespace of the pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return "-"


def _is_gone(said: str) -> bool:
    """Whether it was a process of this place, which is there no more."""
    place, pid, *_ = [*said.split(" "), "", ""]
    if place != _place() or place == "-" or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
