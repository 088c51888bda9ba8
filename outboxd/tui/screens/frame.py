"""The frame around every screen: status line, health strip, tabs and footer, as parts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from outboxd.clock import in_words
from outboxd.monitor import Flow, Overview
from outboxd.tui.keys import Key
from outboxd.tui.refresh import Trends
from outboxd.tui.text import count, glyph_of, rate, since, tone_of, until
from outboxd.tui.widgets.lines import Part
from outboxd.tui.widgets.strip import Cell

if TYPE_CHECKING:
    from outboxd.tui.app import Dashboard

TABS = (
    ("sagas", "1 Sagas"),
    ("dead", "2 Dead"),
    ("flow", "3 Flow"),
    ("messages", "4 Messages"),
    ("log", "5 Log"),
)

OLD_OUTBOX_S = 10.0
"""An outbox row that waits longer than this is trouble: the relay takes milliseconds."""


def status(dash: Dashboard, width: int) -> tuple[list[Part], list[Part]]:
    """Where, the broker, the daemon; and whether the view moves."""
    left: list[Part] = [(" outboxd ", "title"), (f" {dash.place} ", "dim")]
    overview = dash.overview
    if overview is not None:
        left += _daemon(overview, width)
        left += _paused(overview, width)
    view: list[Part] = []
    if dash.read_only:
        view.append(("read-only  ", "dim"))
    if dash.stale_since is not None:
        view.append((f"◔ stale {since(dash.stale_since, dash.now)} ", "bad"))
    elif dash.is_frozen:
        view.append(("◆ FROZEN (f) ", "warn", "screen.freeze"))
    else:
        view.append(("● live ", "good", "screen.freeze"))
    return left, view


def _paused(overview: Overview, width: int) -> list[Part]:
    """Who takes nothing, because a person said so: nobody may wonder why nothing moves."""
    names = [health.participant for health in overview.participants if health.paused]
    if not names:
        return []
    text = f"{len(names)} paused"
    if len(names) == len(overview.participants):
        text = "all paused"
    elif len(names) <= 2 or width >= 160:
        text = f"{', '.join(names)} paused"
    return [(f"  {glyph_of('paused')} {text}", tone_of("paused"), "app.screen('flow')")]


def _daemon(overview: Overview, width: int) -> list[Part]:
    daemon = overview.daemon
    if daemon.state == "down":
        return [("  ○ outboxd is not running", "bad"), ("  all here is at rest and safe", "dim")]
    parts: list[Part] = []
    is_embedded = daemon.redis is None or daemon.redis.endswith("/broker/sock")
    where = "embedded broker" if is_embedded else str(daemon.redis).split("?")[0]
    if daemon.broker.state == "down":
        down = since(daemon.broker.since, overview.at)
        parts += [(f"  ✗ broker down {down}", "bad"), (", work is safe in the outbox", "dim")]
    elif width >= 100:
        parts += [("  ● ", "good"), (where, "dim")]
    if daemon.state == "silent":
        parts += [("  ◔ silent", "warn")]
    started = since(daemon.started_at, overview.at)
    parts += [("  ▸ up ", "good"), (started, "dim")]
    if width >= 120 and daemon.node:
        parts += [(f"  node {daemon.node}", "dim")]
    return parts


def tabs(overview: Overview | None, current: str) -> tuple[list[Part], list[Part]]:
    """The five screens, with what waits in them."""
    numbers = {}
    if overview is not None:
        open_sagas = sum(overview.sagas(s) for s in ("stuck", "compensating", "running"))
        numbers = {"sagas": open_sagas, "dead": overview.letters}
    parts: list[Part] = [("━━", "rule")]
    for name, title in TABS:
        n = numbers.get(name)
        text = f"{title} {count(n)}" if n else title
        if name == current:
            parts += [(" ▌", "key"), (text, "title"), ("▐ ", "key")]
        else:
            tone = "bad" if name == "dead" and n else "dim"
            parts += [(f"  {text}  ", tone, f"app.screen('{name}')")]
        parts.append(("━━", "rule"))
    return [*parts, ("━" * 200, "rule")], []


def _old(at: datetime, now: datetime) -> str:
    span = since(at, now)
    return "just now" if span == "now" else f"{span} old"


def footer(keys: Sequence[Key], width: int) -> tuple[list[Part], list[Part]]:
    """As many keys as fit, the most needed first; each can be clicked."""
    fixed = [key for key in keys if key.id in ("palette", "help", "quit")]
    shown = [key for key in keys if key.rank and key not in fixed]
    room = width - 2 - sum(_width(key) for key in fixed)
    kept: list[Key] = []
    for key in sorted(shown, key=lambda key: key.rank):
        if _width(key) <= room:
            kept.append(key)
            room -= _width(key)
    left = [part for key in shown if key in kept for part in _key(key)]
    return [(" ", ""), *left], [part for key in fixed for part in _key(key)]


def _width(key: Key) -> int:
    return len(key.shown) + len(key.label) + 3


def _key(key: Key) -> list[Part]:
    action = key.action if key.action.startswith("app.") else f"screen.{key.action}"
    return [(key.shown, "key", action), (f" {key.label}  ", "", action)]


def cells(overview: Overview, flow: Flow | None, trends: Trends, now: datetime) -> tuple[Cell, ...]:
    """Health at a glance."""
    total = overview.participants
    outbox = sum(h.outbox for h in total)
    oldest = min((h.outbox_oldest_at for h in total if h.outbox_oldest_at), default=None)
    is_old = oldest is not None and (now - oldest).total_seconds() > OLD_OUTBOX_S
    retrying = sum(h.retrying for h in total)
    in_hand = sum(h.running + h.waiting + h.retrying + h.held for h in total)
    next_at = min((h.next_at for h in total if h.next_at), default=None)
    timers = sum(h.timers for h in flow.handled) if flow else 0
    letters_at = min((h.letters_oldest_at for h in total if h.letters_oldest_at), default=None)
    stuck, undoing = overview.sagas("stuck"), overview.sagas("compensating")
    return (
        _broker(overview, trends),
        Cell(
            name="OUTBOX",
            value=count(outbox),
            detail=_old(oldest, now) if oldest else "✓ empty",
            tone="bad" if is_old else "",
            action="app.screen('messages')",
        ),
        Cell(
            name="IN HAND",
            value=count(in_hand),
            detail=f"{count(retrying)} retry" if retrying else "✓ ok",
            tone="warn" if retrying else "",
            action="app.screen('messages')",
        ),
        Cell(
            name="TIMERS",
            value=count(timers),
            detail=_next(next_at, now),
            action="app.screen('flow')",
        ),
        Cell(
            name="STUCK",
            value=count(stuck),
            detail=f"{count(undoing)} undoing" if undoing else ("✗ look" if stuck else "✓ none"),
            tone="bad" if stuck else "",
            action="app.screen('sagas')",
        ),
        Cell(
            name="DEAD",
            value=count(overview.letters),
            detail=_old(letters_at, now) if letters_at else "✓ none",
            tone="bad" if overview.letters else "",
            action="app.screen('dead')",
        ),
    )


def _next(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "none"
    span = until(at, now)
    return f"next {span[3:]}" if span.startswith("in ") else f"{span[1:]} late"


def _broker(overview: Overview, trends: Trends) -> Cell:
    daemon = overview.daemon
    value = rate(trends["done"].rate)
    if daemon.state == "down":
        return Cell(name="HANDLED", value=value, detail="○ stopped", tone="bad")
    if daemon.broker.state == "down":
        span = in_words((overview.at - (daemon.broker.since or overview.at)).total_seconds())
        return Cell(name="HANDLED", value=value, detail=f"down {span}", tone="bad")
    return Cell(name="HANDLED", value=value, detail="✓ ok", action="app.screen('flow')")
