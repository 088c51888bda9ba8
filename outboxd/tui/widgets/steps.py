"""A saga's steps and undos, one line each, with a piece of its time line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from datetime import datetime

from rich.text import Text

from outboxd.monitor import SagaDetail, SagaStep
from outboxd.tui.look import Tones
from outboxd.tui.text import bar, brief, fitted, glyph_of, scale, tone_of

_FIXED = 52
"""Cells before the time line."""


def span_of(detail: SagaDetail, now: datetime) -> float:
    """Seconds from the saga's start to its end, or to now."""
    end = detail.saga.ended_at or now
    return max(0.001, (end - detail.saga.started_at).total_seconds())


def table(detail: SagaDetail, now: datetime, tones: Tones, width: int) -> Text:
    """All steps with their time line, as wide as there is room."""
    span, line = span_of(detail, now), max(0, width - _FIXED - 2)
    has_line = line >= 16
    head = f"   {'STEP':<21}  {'STATE':<12}  {'TRY':>3} "
    head += f"{'TOOK':>6}  " + (scale(span, line) if has_line else "")
    found = Text(end="")
    found.append(fitted(head, width).rstrip() + "\n", tones["head"])
    for step in _all(detail):
        found.append_text(_line(step, detail, now, tones, line if has_line else 0))
        found.append("\n")
    return found


def height(detail: SagaDetail) -> int:
    """Lines of the table."""
    return 1 + len(detail.steps) + len(detail.undos)


def summary(detail: SagaDetail, now: datetime, tones: Tones, width: int) -> Text:
    """What the preview of a saga shows: steps, what it waits for, what would move it."""
    found = table(detail, now, tones, width)
    tone = "warn" if detail.saga.state == "stuck" else ""
    for sentence in detail.waits_for:
        found.append("   waits ", tones["head"])
        found.append(f"{_indented(sentence, width)}\n", tones[tone])
    if detail.reason:
        found.append("   why   ", tones["head"])
        found.append(f"{_indented(detail.reason, width)}\n")
    return found


def _indented(sentence: str, width: int) -> str:
    lines = textwrap.wrap(sentence, max(20, width - 10), break_on_hyphens=False)
    return ("\n" + " " * 9).join(lines)


def _all(detail: SagaDetail) -> Iterable[SagaStep]:
    yield from detail.steps
    yield from detail.undos


def _line(step: SagaStep, detail: SagaDetail, now: datetime, tones: Tones, width: int) -> Text:
    state = step.state
    if step.kind == "undo" and state not in ("done",):
        state = "retrying" if step.failed_tries and state == "compensating" else state
        state = "sent" if state == "compensating" else state
    tone = tone_of(state)
    name = f"↶ {step.name}" if step.kind == "undo" else step.title
    where = f" {step.to}" if step.to else ""
    found = Text("   ", no_wrap=True, end="")
    found.append(fitted(name, 21), tones["undo"] if step.kind == "undo" else tones[""])
    found.append("  ")
    found.append(fitted(f"{glyph_of(state)} {state}", 12), tones[tone])
    tries = step.failed_tries + (1 if state in ("done", "rejected") else 0)
    found.append(f"  {tries if tries > 1 else '-':>3} ", tones["warn" if tries > 1 else "dim"])
    ended = step.ended_at or detail.saga.ended_at or now
    took = (ended - step.started_at).total_seconds()
    found.append(f"{brief(took) if step.took_s != 0.0 else '-':>6}  ")
    if width:
        start = detail.saga.started_at
        ticks = [(at - start).total_seconds() for at in step.tried_at]
        begin, end = (step.started_at - start).total_seconds(), (ended - start).total_seconds()
        drawn = bar(begin, end, span_of(detail, now), width, ticks)
        found.append(drawn.rstrip(), tones[tone])
        room = width - len(drawn.rstrip()) - len(where)
        if room > 0:
            found.append(where, tones["dim"])
    return found
