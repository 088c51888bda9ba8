"""Async handlers: run on the event loop, outside any transaction, many at a time.

The attempt was committed before it starts here. What the handler learned is committed by a plain
function; a shutdown that interrupts it gives the attempt back.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from .batch import Outcome, Started
from .committer import Committer
from .delivery import Delivery
from .errors import Unavailable
from .message import decode_data, decode_message, encode
from .participant import Context
from .store import inbox
from .store.connection import Connection
from .traces import failure_of
from .tx import Tx

log = logging.getLogger("outboxd")


GIVE_BACK_S = 0.5


class NotCommitted(Unavailable):
    """A durable step of an effect could not be committed: the disk's fault, not the handler's."""


class Effects:
    """The running effects of one participant, and the second tries of its def handlers."""

    def __init__(self, delivery: Delivery, committer: Committer, tasks: TaskGroup) -> None:
        self.resource: Any = None
        self.running: dict[int, Started] = {}
        self._delivery = delivery
        self._committer = committer
        self._tasks = tasks
        self._is_stopped = False

    def take(self, outcome: Outcome) -> None:
        """Starts what a committed batch has begun; suspects are run by whoever asked for one."""
        for started in outcome.started:
            if not started.held.is_suspect:
                self.running[started.held.n] = started
                if not self._is_stopped:
                    self._tasks.start_soon(self.run, started)

    async def launched(self, started: Started) -> None:
        """Makes one attempt and waits for its end; it goes on if the waiting is cancelled."""
        ended = anyio.Event()
        self.running[started.held.n] = started

        async def run() -> None:
            try:
                await self.run(started)
            finally:
                ended.set()

        self._tasks.start_soon(run)
        await ended.wait()

    async def run(self, started: Started) -> None:
        """Makes one attempt; its end is committed, whatever it is."""
        self.running[started.held.n] = started
        try:
            if started.handler is None:
                await self._run_def(started)
            else:
                await self._run_effect(started)
        except Unavailable as err:
            # Not the handler's fault: the attempt is given back, uncounted, once the disk answers.
            log.info("attempt_not_committed id=%r error=%r", started.held.id, str(err))
            await self._give_back(started.held.n)
        finally:
            self.running.pop(started.held.n, None)

    async def drain(self, deadline_s: float) -> int:
        """Waits for what runs, at most ``deadline_s`` seconds; returns how many still do."""
        with anyio.move_on_after(deadline_s):
            while self.running:  # noqa: ASYNC110 - only at the end: not worth an event
                await anyio.sleep(0.01)
        return len(self.running)

    async def stop(self) -> None:
        """Gives back what runs no more, or was begun too late to run: uncounted, due at once."""
        self._is_stopped = True
        for n in list(self.running):
            await self._committer.database.write(lambda cx, n=n: self._delivery.release(cx, n))  # type: ignore[misc]
            self.running.pop(n, None)

    async def _give_back(self, n: int) -> None:
        while True:
            await anyio.sleep(GIVE_BACK_S)
            try:
                await self._committer.commit(lambda cx: self._delivery.release(cx, n))
                return
            except Unavailable:
                continue

    async def _run_def(self, started: Started) -> None:
        n = started.held.n
        with anyio.CancelScope(shield=True):
            await self._committer.commit(lambda cx: self._delivery.run(cx, n))

    async def _run_effect(self, started: Started) -> None:
        steps = Steps(started, self._delivery, self._committer)
        n = started.held.n
        try:
            value = await self._attempt(started, steps)
        except anyio.get_cancelled_exc_class() as err:
            if anyio.current_effective_deadline() > -math.inf:  # nobody stops us: it did it itself
                failure: Exception = RuntimeError(f"the handler cancelled itself: {err!r}")
                await steps.failed(failure)
                return
            with anyio.CancelScope(shield=True):
                await self._committer.commit(lambda cx: self._delivery.release(cx, n))
            raise
        except NotCommitted:
            raise
        except (Exception, SystemExit) as err:
            await steps.failed(failure_of(err) or RuntimeError(repr(err)))
            return
        await steps.finished(value)

    async def _attempt(self, started: Started, steps: Steps) -> Any:
        handler = started.handler
        assert handler is not None
        message = decode_message(started.envelope, handler.message)
        context = Context(
            started.envelope, started.held.attempts, started.step, self.resource, steps
        )
        limit_s = handler.spec.timeout_s
        try:
            with anyio.fail_after(limit_s) as scope:
                return await handler.spec.fn(context, message)
        except TimeoutError as err:
            if scope.cancelled_caught:
                raise TimeoutError(f"{handler.name} was not done within {limit_s:g} s") from err
            raise


def _own(fn: Callable[[Tx], Any]) -> Callable[[Tx], Any]:
    """``fn``, whose own Unavailable is a failure of the handler and not of the database."""

    def work(tx: Tx) -> Any:
        try:
            return fn(tx)
        except Unavailable as err:
            raise RuntimeError(f"{type(err).__name__}: {err}") from err

    return work


class Steps:
    """The durable steps of one attempt: what its Context calls, and how it ends.

    Waits for nothing but the database, and so serves the simulator as well.
    """

    def __init__(self, started: Started, delivery: Delivery, committer: Committer) -> None:
        self.is_committed = False
        self._n = started.held.n
        self._id = started.envelope.undoes or started.envelope.id
        self._prefix = "undo " if started.envelope.undoes else ""
        self._delivery = delivery
        self._committer = committer

    async def once(self, name: str, call: Callable[[], Awaitable[Any]], wanted: Any) -> Any:
        """Commits "started", calls, commits the result; a recorded result is returned instead."""
        name = self._prefix + name
        recorded = await self._write(lambda cx: self._begin_once(cx, name))
        if recorded is not None:
            return decode_data(recorded, wanted)
        value = await call()
        result = encode(value)
        await self._write(lambda cx: inbox.end_once(cx, self._id, name, result))
        return value

    async def commit(self, fn: Callable[[Tx], Any]) -> Any:
        """The one transaction that ends the message. Cancelling does not interrupt it."""
        if self.is_committed:
            raise RuntimeError("ctx.commit was called twice; one message is one transaction")
        outcome, value = await self._write(lambda cx: self._delivery.finish(cx, self._n, _own(fn)))
        self.is_committed = True
        self._committer.settle(outcome)
        return value

    async def finished(self, value: Any) -> None:
        """The handler returned; one that did not commit has its value for an answer."""
        if self.is_committed:
            return
        try:
            await self.commit(lambda tx: value)
        except NotCommitted:
            raise
        except Exception as err:
            await self.failed(err)

    async def failed(self, error: Exception) -> None:
        """The handler raised; after its commit that changes nothing any more."""
        if self.is_committed:
            log.error("handler_failed_after_commit id=%r", self._id, exc_info=error)
            return
        await self._committer.commit(lambda cx: self._delivery.fail(cx, self._n, error))

    def _begin_once(self, connection: Connection, name: str) -> bytes | None:
        found = inbox.once_result(connection, self._id, name)
        if found is not None and found[0] == "done":
            return found[1]
        inbox.start_once(connection, self._id, name, self._delivery.clock.now())
        return None

    async def _write(self, work: Callable[[Connection], Any]) -> Any:
        try:
            return await self._committer.database.write(work)
        except Unavailable as err:
            raise NotCommitted(err.message, hint=err.hint) from err
