"""What the journal of an ended saga must show: no timer before its time, the last undone first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from outboxd.book import DROPPED, is_step
from outboxd.store.journal import JournalRow

_EARLY_S = 0.001
"""Spans are written with six digits and times with float64: less than this is no difference."""


def fired_early(rows: Sequence[JournalRow]) -> Iterator[str]:
    """A sentence for each sleep or call that ended by its timer, and too soon."""
    begun: dict[int, JournalRow] = {}
    for row in rows:
        if row.kind in ("call", "join", "receive", "sleep"):
            begun[row.pos] = row
        elif row.kind in ("woke", "timed_out") and row.pos in begun:
            span_s, waited_s = _span(row), row.at - begun[row.pos].at
            if waited_s < span_s * (1 - 1e-5) - _EARLY_S:
                yield f"{row.name} (step {row.pos}): {row.kind} after {waited_s:g} s of {span_s:g}"


def _span(row: JournalRow) -> float:
    if row.kind == "woke":
        return float(row.name.removesuffix("s"))
    span_s: float = msgspec.json.decode(row.data or b"{}").get("span_s", 0.0)
    return span_s


def undone_first_first(rows: Sequence[JournalRow]) -> bool:
    """Whether a call was undone, as the saga unwound, before another that ended after it."""
    ended = {row.pos: row.n for row in rows if is_step(row) or row.kind == DROPPED}
    order: list[int] = []
    for row in rows:
        if is_step(row) or row.kind == DROPPED:
            # An undo that was asked for on the way belongs to a step that timed out or was dropped.
            order.clear()
        elif row.kind == "undo_sent":
            order.append(ended.get(row.pos, 0))
    return order != sorted(order, reverse=True)
