"""A runtime on its own: signals, a feed, an end when idle, and a report of how far it is."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from . import monitor
from .errors import first_of
from .registry import Registry
from .runtime import Progress, Runtime
from .settings import Settings

log = logging.getLogger("outboxd")

REPORT_S = 0.2


class Summary(msgspec.Struct, frozen=True):
    """How it ended: ``idle``, ``stopped`` or ``interrupted``; and which invariants do not hold."""

    progress: Progress
    ended: str
    violations: list[str]


class _Lines(msgspec.Struct):
    """The lines of the feed."""

    taken: int = 0
    refused: int = 0

    def count(self, was_taken: bool) -> None:
        self.taken += was_taken
        self.refused += not was_taken


async def serve(
    registry: Registry,
    settings: Settings,
    *,
    feed: Path | None,
    until_idle: bool,
    report: Callable[[Progress], None],
    part: Callable[[], None] = lambda: None,
) -> Summary:
    """Runs until idle, a signal, or an error; ``report`` is called a few times a second.

    The first SIGINT or SIGTERM drains, a second SIGINT stops at once, right after ``part``, the
    last words; one that comes when all is done is ignored for what is left of the process. Raises
    OutboxdError.
    """
    runtime = Runtime(
        registry,
        data=settings.data,
        redis=settings.redis,
        node=settings.node,
        drain_s=settings.drain,
    )
    lines = _Lines()
    violations: list[str] = []
    ended = "stopped"
    try:
        async with anyio.create_task_group() as group:
            work = anyio.CancelScope()
            await group.start(_watch_signals, runtime, work, settings.drain, part)
            with work:
                async with runtime:
                    group.start_soon(_keep_reporting, runtime, lines, report)
                    if feed is not None:
                        await runtime.intake.feed(feed, lines.count)
                    if until_idle:
                        await runtime.until_idle()
                        ended = "idle"
                        violations = await anyio.to_thread.run_sync(
                            monitor.check_invariants, settings.data, registry
                        )
                    else:
                        await anyio.sleep_forever()
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise first_of(errors) from errors
    return Summary(_progress(runtime, lines), ended, violations)


async def _watch_signals(
    runtime: Runtime,
    work: anyio.CancelScope,
    drain_s: float,
    part: Callable[[], None],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    try:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            is_stopping = False
            async for number in signals:
                if is_stopping and number == signal.SIGINT:
                    part()
                    runtime.abandon()
                if not is_stopping:
                    is_stopping = True
                    again = "; again to stop now" if number == signal.SIGINT else ""
                    log.warning("stopping, %d in hand, %g s%s", runtime.in_hand, drain_s, again)
                    runtime.stop()
                    work.cancel()
    finally:
        # The receiver gives the signals back to their defaults: one that comes while the process
        # has only its summary to say would make a killed run of a clean one.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


async def _keep_reporting(
    runtime: Runtime, lines: _Lines, report: Callable[[Progress], None]
) -> None:
    while True:
        report(_progress(runtime, lines))
        await anyio.sleep(REPORT_S)


def _progress(runtime: Runtime, lines: _Lines) -> Progress:
    return msgspec.structs.replace(
        runtime.progress(), read=lines.taken + lines.refused, refused=lines.refused
    )
