"""Where plugin code waited for, or touched, what a simulation does not have."""

from __future__ import annotations

from types import FrameType
from typing import Any

from outboxd.plugins import is_own, shown
from outboxd.traces import is_lost_in_async

INSTEAD = (
    "in a simulation there is no event loop, no network and no other process: "
    "register a fake with @participant.fake, and call it through ctx.once"
)


def is_lost(error: Exception) -> bool:
    """Whether a library for event loops failed for want of one; its clients wrap that error."""
    cause: BaseException | None = error
    while cause is not None:
        if is_lost_in_async(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def waits_at(coroutine: Any) -> str:
    """``file:line: `` of the innermost line of a plugin at which a coroutine waits."""
    found = ""
    while coroutine is not None:
        frame: FrameType | None = getattr(coroutine, "cr_frame", None)
        if frame is not None and is_own(frame.f_code.co_filename):
            found = f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}: "
        coroutine = getattr(coroutine, "cr_await", None)
    return found
