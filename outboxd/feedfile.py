"""A file of messages, one JSON object a line, on its way into a participant's inbox.

A line that cannot be taken is named with file and line, and the rest goes on. A message's id is the
line's own, or the hash of its content, so that feeding a file twice changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from .errors import ConfigError
from .message import (
    BAD_BYTES,
    MAX_ENVELOPE_BYTES,
    BadKey,
    Envelope,
    Event,
    TooBig,
    Undecodable,
    decode_data,
    key_of,
)
from .registry import Registry

SOURCE = "feed"


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line: ``type`` and ``data``, and if wanted its own ``id``, ``key`` and ``time``."""

    type: str
    data: msgspec.Raw
    id: str | None = None
    key: str | None = None
    kind: str = "command"
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class Taken(msgspec.Struct, frozen=True):
    """A good line: for whom, and what."""

    owner: str
    envelope: Envelope


class Refusal(msgspec.Struct, frozen=True):
    """A line that cannot be taken, and why."""

    number: int
    reason: str


_LINES = msgspec.json.Decoder(Line)


def read(path: Path, registry: Registry, now: datetime) -> Iterator[Taken | Refusal]:
    """All lines of ``path``. Raises ConfigError if it cannot be read."""
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                if raw.strip():
                    yield _take(number, raw, registry, now)
    except OSError as err:
        raise ConfigError(f"cannot read {path}: {err.strerror}") from err


def _take(number: int, raw: bytes, registry: Registry, now: datetime) -> Taken | Refusal:
    if len(raw) > MAX_ENVELOPE_BYTES:
        return Refusal(number, TooBig(len(raw)).message)
    try:
        line = _LINES.decode(raw)
    except BAD_BYTES as err:
        return Refusal(number, f"malformed: {err}")
    owner = registry.owner(line.type)
    message_type = registry.message(line.type)
    if message_type is not None and issubclass(message_type, Event):
        source = message_type.__outboxd__.source
        return Refusal(number, f"{line.type} is an event of {source}; a feed takes commands")
    if owner is None or message_type is None:
        near = registry.nearest(line.type)
        hint = f"; did you mean {near}?" if near else ""
        return Refusal(number, f"unknown type {line.type!r}{hint}")
    try:
        message = decode_data(line.data, message_type)
        key = line.key or key_of(message)
    except (Undecodable, BadKey) as err:
        return Refusal(number, str(err))
    digest = hashlib.sha256(b"%b %b" % (line.type.encode(), bytes(line.data).strip()))
    message_id = line.id or digest.hexdigest()[:32]
    envelope = Envelope(
        specversion="1.0",
        id=message_id,
        type=line.type,
        source=SOURCE,
        time=line.time or now,
        subject=key,
        data=msgspec.Raw(bytes(line.data)),
        kind="command",
        correlationid=message_id,
        schemaversion=message_type.__outboxd__.version,
    )
    return Taken(owner, envelope)
