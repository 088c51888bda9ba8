"""What became of a request: asked for, applied, and for letters how far they are."""

from __future__ import annotations

import msgspec

from outboxd.errors import NotFound
from outboxd.monitor import Monitor
from outboxd.store.control import Request


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """``letters``: as (participant, number), if it is about them."""

    what: str
    requests: tuple[str, ...]
    letters: tuple[tuple[str, int], ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence for the line above the footer."""

    text: str
    tone: str
    is_over: bool


def progress(monitor: Monitor, operation: Operation) -> Progress:
    """How far it is; reads a row for each request and counts its letters by state."""
    requests = []
    for request_id in operation.requests:
        try:
            requests.append(monitor.request(request_id))
        except NotFound:  # settled long ago and forgotten
            continue
    if any(request.state == "pending" for request in requests):
        return _pending(monitor, operation, requests)
    refused = [request for request in requests if request.state == "refused"]
    if refused:
        some = "" if len(requests) == 1 else f"{len(refused):,} of {len(requests):,} "
        text = f"✗ {operation.what}: {some}refused: {refused[0].result}"
        return Progress(text=text, tone="bad", is_over=True)
    if operation.letters:
        return _letters(monitor, operation)
    said = requests[0].result if requests else ""
    more = f" ({said})" if said not in ("", "done") else ""
    return Progress(text=f"✓ {operation.what}: done{more}", tone="good", is_over=True)


def _pending(monitor: Monitor, operation: Operation, requests: list[Request]) -> Progress:
    if monitor.daemon().state == "down":
        text = f"◔ {operation.what}: queued; it is applied as soon as outboxd runs here"
        return Progress(text=text, tone="warn", is_over=True)
    done = sum(request.state != "pending" for request in requests)
    more = f", {done:,} of {len(requests):,} done" if len(requests) > 1 else ""
    return Progress(text=f"⟳ {operation.what}: asked for{more}", tone="live", is_over=False)


def _letters(monitor: Monitor, operation: Operation) -> Progress:
    states = monitor.letter_states(operation.letters)
    total = len(operation.letters)
    under_way = states.get("replaying", 0)
    done = states.get("replayed", 0)
    failed = states.get("dead", 0)
    gone = states.get("discarded", 0) + states.get("closed", 0)
    parts = []
    if done or under_way:
        parts.append(f"{done:,} of {total:,} handled")
    if gone:
        parts.append(f"{gone:,} of {total:,} discarded")
    if failed:
        parts.append(f"{failed:,} failed again")
    if under_way:
        text = f"⟳ {operation.what}: {', '.join(parts)}, {under_way:,} under way"
        return Progress(text=text, tone="live", is_over=False)
    glyph, tone = ("✗", "bad") if failed else ("✓", "good")
    return Progress(text=f"{glyph} {operation.what}: {', '.join(parts)}", tone=tone, is_over=True)
