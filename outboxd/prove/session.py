"""One proof: which schedules are gone through, in which order, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from outboxd.errors import ConfigError
from outboxd.message import Message
from outboxd.registry import Registry

from .cast import Cast, examples_of
from .explore import Explorer, Found, Tally, undisturbed
from .world import HORIZON_S

RACE_FAULTS = 1
"""Failures beside which several sagas at once are explored in every order."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How far to go.

    faults: at most so many failures in each systematic schedule.
    seed, random_s, first_run: of the random schedules after them: real seconds, and where to go on.
    random_runs: at most so many of them.
    instances: sagas at once for each example.
    limit_s: real seconds for all of it.
    horizon_s: virtual seconds after which a saga is taken to wait for ever.
    jobs: processes.
    """

    faults: int = 2
    seed: int = 0
    random_s: float = 5.0
    first_run: int = 0
    random_runs: int = 1_000_000
    instances: int = 2
    limit_s: float = 600.0
    horizon_s: float = HORIZON_S
    jobs: int = 1


class Part(msgspec.Struct, frozen=True):
    """One part of a proof: what was started, and what was gone through."""

    what: str
    tally: Tally


class Proof(msgspec.Struct, frozen=True):
    """What came of it. ``found``: the first violation; ``took_s``: real seconds; ``horizon_s``:
    virtual ones after which whatever has not ended was taken to wait for ever.
    """

    found: Found | None
    parts: list[Part]
    seed: int
    took_s: float
    horizon_s: float = HORIZON_S


def prove(
    registry: Registry,
    starts: Sequence[Message] = (),
    settings: Settings | None = None,
    tell: Callable[[str, Tally], None] = lambda what, tally: None,
) -> Proof:
    """Explores what may become of ``starts``, or of the participants' own examples.

    1. Each start alone, every schedule with one failure.
    2. Several instances of each at once, in every order and with one failure.
    3. Each start alone, every schedule with at most ``faults`` failures.
    4. All of them together, in random schedules.

    What participants do every so often fires twice in each, the first time at any moment.

    Raises ConfigError if there is nothing to start.
    """
    settings = settings or Settings()
    messages = list(starts) or examples_of(registry)
    if not messages and not registry.schedules:
        raise ConfigError(
            "there is no message to start a saga with, and no schedule",
            hint="call `participant.example(PlaceOrder(…))` in the plugin, or give --start",
        )
    began = time.monotonic()
    ends_at = began + settings.limit_s
    parts: list[Part] = []
    cast = Cast(registry)

    def explore(what: str, until: float, work: Callable[[Explorer], Found | None]) -> Found | None:
        explorer = Explorer(
            cast,
            horizon_s=settings.horizon_s,
            tell=lambda tally: tell(what, tally),
            ends_at=min(ends_at, until),
            jobs=settings.jobs,
        )
        found = work(explorer)
        parts[:] = [part for part in parts if part.what != what]  # with fewer failures
        parts.append(Part(what, explorer.tally))
        return found

    try:
        with undisturbed():
            found = _all_parts(messages, settings, explore)
    finally:
        cast.close()
    return Proof(found, parts, settings.seed, time.monotonic() - began, settings.horizon_s)


def _all_parts(messages: Sequence[Message], settings: Settings, explore: Any) -> Found | None:
    """Few failures first, also where several sagas meet; then the many schedules with more."""
    few = min(RACE_FAULTS, settings.faults)
    crowds = [[copied(m, n) for n in range(settings.instances)] for m in messages]
    alone = [[message] for message in messages] or [[]]
    plan = [(starts, few) for starts in alone]
    plan += [(crowd, few) for crowd in crowds if len(crowd) > 1]
    plan += [(starts, settings.faults) for starts in alone if settings.faults > few]
    for starts, faults in plan:
        what = _named(starts)
        found: Found | None = explore(
            what, float("inf"), lambda e, s=starts, f=faults: e.systematic(s, f)
        )
        if found is not None:
            return found
    everything = [message for crowd in crowds for message in crowd]
    until = time.monotonic() + settings.random_s
    runs = range(settings.first_run, settings.first_run + settings.random_runs)
    found = explore(
        "all at once, at random", until, lambda e: e.random(everything, settings.seed, runs)
    )
    return found


def _named(starts: Sequence[Message]) -> str:
    if not starts:
        return "what comes every so often"
    name = type(starts[0]).__name__
    return name if len(starts) == 1 else f"{len(starts)} of {name} at once"


def copied(message: Message, number: int) -> Message:
    """A further start like ``message``, with a key of its own; the first is ``message`` itself."""
    field = message.__outboxd__.key
    if number == 0 or field is None:
        return message
    key = getattr(message, field)
    other = key + number if isinstance(key, int) else f"{key}-{number + 1}"
    return msgspec.structs.replace(message, **{field: other})  # type: ignore[type-var]  # a Struct
