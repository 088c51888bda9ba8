"""A schedule that was found once, followed again: for the test of it, and for the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from outboxd import plugins as plugins_module
from outboxd.errors import ConfigError
from outboxd.message import Message, Undecodable, decode_data
from outboxd.registry import Registry

from .cast import Cast
from .choices import Recalled, Remembered
from .explore import Explorer, Found
from .report import Saved, violation
from .world import HORIZON_S


class Followed(msgspec.Struct, frozen=True):
    """What came of it. ``missed``: failures of the schedule that do not come by any more."""

    found: Found | None
    missed: list[str]


def followed(
    plugins: Sequence[str],
    starts: Sequence[tuple[str, Mapping[str, Any]]],
    schedule: Sequence[Remembered],
    *,
    horizon_s: float = HORIZON_S,
) -> None:
    """Runs a schedule that ``outboxd prove`` has found, for the test that it wrote.

    ``schedule``: at which points of the run, the how-manieth of that text, things go which way.
    Raises AssertionError with the story as long as something does not hold.
    """
    __tracebackhide__ = True
    registry = Registry(plugins_module.load(plugins))
    messages = [
        message_of(registry, name, msgspec.json.encode(data), "STARTS") for name, data in starts
    ]
    found = follow(registry, messages, schedule, horizon_s).found
    if found is not None:
        raise AssertionError("\n".join(violation(found)))


def follow(
    registry: Registry,
    messages: Sequence[Message],
    schedule: Sequence[Remembered],
    horizon_s: float = HORIZON_S,
) -> Followed:
    """One run of a schedule. Raises ConfigError if nobody takes the messages."""
    cast = Cast(registry)
    chooser = Recalled(schedule)
    try:
        found = Explorer(cast, horizon_s=horizon_s).follow(messages, chooser)
    finally:
        cast.close()
    return Followed(found, [f"{what}: {way}" for what, _, way in chooser.missed])


def read(path: Path) -> Saved:
    """A file that ``report.write`` wrote. Raises ConfigError if it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Saved)
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise ConfigError(
            f"{path}: {err}", hint="give the violation.json that outboxd prove wrote"
        ) from err


def message_of(registry: Registry, name: str, data: bytes, place: str) -> Message:
    """A message from its type's name and JSON; ``place``: where it stands, for errors.

    Raises ConfigError for an unknown type, with the nearest, and for data that is not of it.
    """
    kind = registry.messages.get(name)
    if kind is None:
        near = registry.nearest(name)
        raise ConfigError(
            f"no plugin knows a message {name}", hint=f"did you mean {near}?" if near else None
        )
    try:
        message: Message = decode_data(data, kind)
    except Undecodable as err:
        raise ConfigError(f"{place}: {err.message}") from err
    return message
