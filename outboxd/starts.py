"""An application's command → the saga that it has begun, also where that takes its time.

A start is durable once it is submitted. Which saga it belongs to is known when its turn comes: at
once, unless it is held, as in a process that follows a crash, or behind another of its key. Until
then the same message is submitted again: that changes nothing, and is answered with what came of
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio
import msgspec

from .batch import Outcome
from .errors import Refused
from .hosted import Hosted
from .message import Envelope

FIRST_LOOK_S = 0.01
LOOK_S = 0.5


class Wanted(msgspec.Struct, frozen=True):
    """One start. ``expected``: the saga that it can only belong to, or None if that is open."""

    owner: str
    name: str
    expected: str | None
    envelope: Envelope


class Starts:
    """Starts sagas of the hosted participants."""

    def __init__(self, hosted: Mapping[str, Hosted]) -> None:
        self._hosted = hosted

    async def begin(self, wanted: Sequence[Wanted]) -> list[str]:
        """The sagas' ids, in the order of the starts; those of one participant in one transaction.

        Raises Refused if one of them begins none, and belongs to none that has begun.
        """
        found: dict[str, str] = {}
        left, pause_s = list(wanted), FIRST_LOOK_S
        while True:
            for owner in dict.fromkeys(start.owner for start in left):
                mine = [start for start in left if start.owner == owner]
                outcome = await self._hosted[owner].submit([start.envelope for start in mine])
                found |= {start.envelope.id: saga_id for start, saga_id in _begun(mine, outcome)}
            left = [start for start in left if start.envelope.id not in found]
            if not left:
                return [found[start.envelope.id] for start in wanted]
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, LOOK_S)


def _begun(starts: Sequence[Wanted], outcome: Outcome) -> list[tuple[Wanted, str]]:
    begun: list[tuple[Wanted, str]] = []
    for start in starts:
        message_id = start.envelope.id
        if message_id in outcome.refused:
            raise Refused(outcome.refused[message_id])
        saga_id = outcome.sagas.get(message_id, start.expected or "")
        if saga_id is None:
            raise Refused(f"{start.name} was started before")
        if saga_id:
            begun.append((start, saga_id))
    return begun
