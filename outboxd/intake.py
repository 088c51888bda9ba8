"""What comes from outside: lines of a feed, and the requests that others wrote into control.db."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import anyio

from . import feedfile, requests
from .clock import Clock, utc
from .errors import Refused, Unavailable
from .hosted import Hosted
from .message import Envelope
from .registry import Registry
from .store import control
from .store.connection import Database

log = logging.getLogger("outboxd")

FEED_BATCH = 200
FEED_OPEN = 4000
"""Sagas under way above which a feed waits: memory stays bounded, latency too."""

POLL_S = 0.02
REQUESTS_S = 0.1
REQUESTS = 500


class Intake:
    """Hands messages and requests to the participants that own them."""

    def __init__(
        self, hosted: Mapping[str, Hosted], registry: Registry, requests_: Database, clock: Clock
    ) -> None:
        self._hosted = hosted
        self._registry = registry
        self._control = requests_
        self._clock = clock

    async def feed(self, path: Path, count: Callable[[bool], None]) -> None:
        """Takes the lines of a file; ``count(was_taken)`` is called for each."""
        await self._until_subscribed()
        pending: dict[str, list[Envelope]] = {}
        for item in feedfile.read(path, self._registry, utc(self._clock.now())):
            count(isinstance(item, feedfile.Taken))
            if isinstance(item, feedfile.Refusal):
                log.error("%s:%d: %s", path, item.number, item.reason)
                continue
            batch = pending.setdefault(item.owner, [])
            batch.append(item.envelope)
            if len(batch) >= FEED_BATCH:
                await self._submit(item.owner, pending.pop(item.owner))
        for owner, batch in pending.items():
            await self._submit(owner, batch)

    async def run(self) -> None:
        """Applies requests as they come, until cancelled."""
        version = -1
        await self._until_subscribed()
        while True:
            try:
                seen = await self._control.read(
                    lambda cx: cx.execute("PRAGMA data_version").fetchone()[0]
                )
                if seen != version:
                    version = seen
                    await self._apply_pending()
            except Unavailable as err:
                version = -1
                log.warning("requests_wait error=%r", str(err))
            await anyio.sleep(REQUESTS_S)

    async def perform(self, request: control.Request) -> str:
        """Applies a request now; returns what came of it. Raises Refused, with nothing changed."""
        hosted = self._hosted.get(request.participant)
        if hosted is None:
            raise Refused(f"{request.participant} is not hosted here")
        delivery = hosted.delivery
        try:
            outcome = await hosted.committer.commit(lambda cx: delivery.apply(cx, request))
        except (Refused, Unavailable):
            raise
        except (Exception, SystemExit) as err:
            # A request runs the saga's own code: its bug must not end the process, again and again.
            log.exception("request_failed id=%r", request.id)
            raise Refused(
                f"the saga's code failed: {type(err).__name__}: {err}",
                hint="`outboxd saga resolve` or `kill` ends it without running its code",
            ) from err
        return outcome.answer

    async def has_requests(self) -> bool:
        """Whether a request waits to be applied."""
        return bool(await self._control.read(lambda cx: control.pending(cx, 1)))

    async def _submit(self, owner: str, envelopes: list[Envelope]) -> None:
        hosted = self._hosted[owner]
        book = hosted.delivery.conductor.book
        while book.tally.running > FEED_OPEN or hosted.delivery.paused:  # noqa: ASYNC110 - any commit may lower it
            await anyio.sleep(POLL_S)
        while True:
            try:
                await hosted.submit(envelopes)
                return
            except Unavailable as err:
                log.warning("feed_waits participant=%s error=%r", owner, str(err))
                await anyio.sleep(1.0)

    async def _until_subscribed(self) -> None:
        """The first messages wait until local subscribers are known to their publishers."""
        while self._lacks_local():  # noqa: ASYNC110 - only at the start: not worth an event
            await anyio.sleep(POLL_S)

    def _lacks_local(self) -> bool:
        local = set(self._hosted)
        return any(local.intersection(h.missing_subscriptions) for h in self._hosted.values())

    async def _apply_pending(self) -> None:
        while found := await self._control.read(
            lambda cx: control.pending(cx, REQUESTS, closed=self._paused())
        ):
            for request in found:
                state, result = await self._apply(request)
                await self._mark(request.id, state, result)

    def _paused(self) -> list[str]:
        """Who takes no messages now: what is sent to them stays where it is."""
        return [name for name, hosted in self._hosted.items() if hosted.delivery.paused]

    async def _apply(self, request: control.Request) -> tuple[Literal["applied", "refused"], str]:
        try:
            return "applied", await self.perform(request)
        except Refused as err:
            return "refused", requests.problem(err)

    async def _mark(
        self, request_id: str, state: Literal["applied", "refused"], result: str
    ) -> None:
        now = self._clock.now()
        await self._control.write(lambda cx: control.mark(cx, request_id, state, result, now))
