"""What falls due → delivery: retries, lanes that became free, deadlines, sleeps, delayed sends.

It sleeps until the next due time that a commit announced, and looks once a second all the same. It
also keeps the books of time: how long the process was away, and when the wall clock jumped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from .batch import NEVER, Outcome
from .committer import Committer
from .delivery import Delivery
from .effects import Effects
from .errors import Unavailable
from .quarantine import Quarantine
from .store import meta
from .wake import Wake

log = logging.getLogger("outboxd")

LOOK_S = 1.0
SUSPECTS_S = 0.05
ALIVE_S = 5.0
JUMP_S = 1.0
"""A difference between wall clock and monotonic clock that is no drift."""


class Scheduler:
    """The due times of one participant.

    ``may_time_out``: whether answers could have come; ``heard_at``: until when they could.
    """

    def __init__(
        self,
        delivery: Delivery,
        committer: Committer,
        effects: Effects,
        quarantine: Quarantine,
        may_time_out: Callable[[], bool],
        heard_at: Callable[[], float],
    ) -> None:
        self._delivery = delivery
        self._committer = committer
        self._effects = effects
        self._quarantine = quarantine
        self._may_time_out = may_time_out
        self._heard_at = heard_at
        self._next_at = 0.0
        self._alive_at = 0.0
        self._has_suspects = delivery.holding.lanes.suspect() is not None
        self._wake = Wake()

    def hear(self, outcome: Outcome) -> None:
        """A commit announced a due time."""
        is_paused = self._delivery.paused is not None
        self._quarantine.note(self._delivery.name, outcome.has_suspects and not is_paused)
        if outcome.wake_at < self._next_at or outcome.has_suspects:
            self._next_at = min(self._next_at, outcome.wake_at)
            self._has_suspects = self._has_suspects or outcome.has_suspects
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled; a disk that refuses is waited for."""
        while True:
            try:
                await self._turn()
            except Unavailable:  # said by the committer
                # What was to be done is not: it is looked for anew.
                self._next_at, self._has_suspects = 0.0, True
                await anyio.sleep(LOOK_S)

    async def _turn(self) -> None:
        await self._keep_time()
        if self._delivery.paused is not None:  # also of suspects none begins; nobody waits for them
            self._quarantine.note(self._delivery.name, False)
            await self._wake.wait_or(SUSPECTS_S)
            return
        if self._has_suspects and not await self._run_suspect():
            return
        if not self._quarantine.is_clear:
            await self._wake.wait_or(SUSPECTS_S)  # another participant's; ours may come meanwhile
            return
        if self._next_at <= self._delivery.clock.now():
            await self._fire()
            return
        await self._wake.wait_or(min(LOOK_S, self._next_at - self._delivery.clock.now()))

    async def _fire(self) -> None:
        """Begins what is due; asks anew when the next is."""
        self._next_at = NEVER
        begun = await self._committer.commit(lambda cx: self._delivery.begin(cx, 200))
        sleeps_only = not self._may_time_out()
        fired = await self._committer.commit(
            lambda cx: self._delivery.timers(cx, sleeps_only=sleeps_only)
        )
        self._next_at = min(self._next_at, begun.wake_at, fired.wake_at)
        if sleeps_only:  # deadlines that are due stay due: look again soon, not at once
            self._next_at = max(self._next_at, self._delivery.clock.now() + 0.05)

    async def _run_suspect(self) -> bool:
        """One suspect at a time in the whole process, its attempt committed before it runs.

        One that hangs is not waited for beyond the quarantine: it goes on beside all others.
        Returns whether others may run.
        """
        async with self._quarantine.one_at_a_time:
            self._has_suspects = False
            outcome = await self._committer.commit(
                lambda cx: self._delivery.begin(cx, 1, suspects=True)
            )
            for started in outcome.started:
                if started.held.is_suspect:
                    with anyio.move_on_after(self._quarantine.left_s):
                        await self._effects.launched(started)
        self._has_suspects = self._has_suspects or outcome.has_suspects or bool(outcome.started)
        if not outcome.started:
            await self._wake.wait_or(SUSPECTS_S)
        return self._quarantine.is_clear

    async def _keep_time(self) -> None:
        clock = self._delivery.clock
        jump_s = clock.jump_s
        if abs(jump_s) > JUMP_S:
            log.warning("clock_jumped participant=%s seconds=%.1f", self._delivery.name, jump_s)
            await self._committer.database.write(lambda cx: self._delivery.shift(cx, jump_s))
            self._next_at = 0.0
        if clock.monotonic() - self._alive_at >= ALIVE_S and self._is_waiting():
            self._alive_at = clock.monotonic()
            at = self._heard_at()
            await self._committer.database.write(lambda cx: meta.put(cx, "alive_at", at))

    def _is_waiting(self) -> bool:
        tally = self._delivery.conductor.book.tally
        return tally.running + tally.compensating > 0
