"""Whose fault it was: tracebacks from the user's code on, and what to write instead."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from .errors import plain

_HERE = f"{Path(__file__).parent}{os.sep}"

ONLY = (
    "it may await only what its Saga offers: call, start, run, send, publish, sleep, until, "
    "receive, all, race"
)

_ASYNC = ("asyncio", "anyio", "sniffio", "trio")


LONGEST = 32 * 1024
"""Characters of a traceback that are kept: one is stored for every failed attempt."""


def where(error: BaseException) -> str:
    """The traceback as text, from the user's code on: how it was called is never what is wrong."""
    told = traceback.TracebackException.from_exception(error)
    _without_ours(told)
    text = plain("".join(told.format()))
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]}\n… ({len(text):,} characters)\n{text[-LONGEST // 2 :]}"


def failure_of(err: BaseException) -> Exception | None:
    """What a handler raised, as a failure of its attempt; None for what is to end its caller.

    ``sys.exit()`` in a handler ends no process, and a cancellation that it met elsewhere, in a loop
    of its own, does not end the task that has called it.
    """
    if isinstance(err, Exception):
        return err
    if isinstance(err, SystemExit) or type(err).__name__ == "CancelledError":
        failure = RuntimeError(f"the handler raised {type(err).__name__}: {err}")
        failure.__cause__ = err
        return failure
    return None


def is_lost_in_async(err: BaseException) -> bool:
    """Whether a library for event loops failed for want of one."""
    if "event loop" in str(err) and isinstance(err, RuntimeError):
        return True
    modules = [module for module, _, _ in _frames(err)]
    return bool(modules) and modules[-1] in _ASYNC


def instead(err: BaseException) -> str:
    """What to write instead of what waits for an event loop."""
    ours = [at for at in _frames(err) if at[0] not in (*_ASYNC, __package__)]
    place = f"{ours[-1][1]}:{ours[-1][2]}: " if ours else ""
    return (
        f"{place}a saga runs without an event loop; {ONLY}; work with the world is an async handler"
    )


def _without_ours(told: traceback.TracebackException) -> None:
    first = next((n for n, frame in enumerate(told.stack) if not _is_ours(frame.filename)), 0)
    del told.stack[:first]
    for cause in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if cause is not None:
            _without_ours(cause)


def _is_ours(filename: str) -> bool:
    return filename.startswith(_HERE)


def _frames(err: BaseException) -> list[tuple[str, str, int]]:
    """(top-level module, file, line) of each frame, the innermost last."""
    return [
        (str(frame.f_globals.get("__name__", "")).split(".")[0], frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(err.__traceback__)
    ]
