"""What became of a request: said at once if the daemon runs, or that it waits for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from outboxd import operate
from outboxd.clock import utc
from outboxd.monitor import Monitor
from outboxd.settings import Settings
from outboxd.store.control import Request

from . import exits
from .output import Output, stated

VERDICT_S = 10.0
"""How long a command waits for a running daemon's verdict; it looks four times a second."""

QUEUED = "queued; it is applied as soon as outboxd runs on this data directory"
SLOW = "queued; outboxd has not applied it yet: see outboxd op show"


def settled(settings: Settings, requests: Sequence[Request]) -> list[Request]:
    """The requests with the daemon's verdict; as they are where no daemon runs."""
    with Monitor(settings.data) as monitor:
        if monitor.daemon().state != "up":
            return list(requests)
    return operate.wait(settings.data, [request.id for request in requests], VERDICT_S)


def report(settings: Settings, out: Output, requests: Sequence[Request]) -> list[Request]:
    """Prints the verdicts, and returns them; ends with code 4 if one was refused."""
    found = settled(settings, requests)
    if out.is_json:
        out.document([shown(request) for request in found])
    for request in found:
        if not out.is_json:
            out.line(f"{request.id}\t{request.state}" if not out.is_tty else _line(request))
        if request.state == "refused":
            exits.say_error(_refusal(request), None)
    if any(request.state == "pending" for request in found):
        out.say(pending_text(settings))
    if any(request.state == "refused" for request in found):
        raise exits.Stop(exits.REFUSED)
    return found


def _refusal(request: Request) -> str:
    """Why, and of what if that does not say it."""
    is_said = request.target in request.result
    return request.result if is_said else f"{request.target}: {request.result or 'refused'}"


def pending_text(settings: Settings) -> str:
    """Why a request is not applied yet."""
    with Monitor(settings.data) as monitor:
        return SLOW if monitor.daemon().state == "up" else QUEUED


def shown(request: Request) -> dict[str, Any]:
    """A request as a JSON document: times as text, its arguments as they are."""
    fields = msgspec.structs.asdict(request)
    applied_at = request.applied_at
    return {
        **fields,
        "at": utc(request.at),
        "args": msgspec.Raw(request.args),
        "applied_at": None if applied_at is None else utc(applied_at),
    }


def _line(request: Request) -> str:
    what = request.target if len(request.target) < 40 else f"{request.target[:39]}…"
    return f"{request.id}  {stated(request.state)}  {request.kind} {what}"
