"""What can be sent here, written down for those without plugins: types with their schemas."""

from __future__ import annotations

from typing import Literal

import msgspec

from .message import Event
from .registry import Registry
from .store.control import CatalogEntry


def entries(registry: Registry) -> list[CatalogEntry]:
    """One entry for each message type that the hosted participants own or publish."""
    found: list[CatalogEntry] = []
    for name, message in sorted(registry.messages.items()):
        spec = message.__outboxd__
        owner = registry.owner(name) or spec.to or spec.source or ""
        kind: Literal["command", "event", "saga"] = "command"
        if registry.saga_started_by(owner, name) is not None:
            kind = "saga"
        elif issubclass(message, Event):
            kind = "event"
        schema = msgspec.json.encode(msgspec.json.schema(message))
        found.append(
            CatalogEntry(type=name, participant=owner, kind=kind, key_field=spec.key, schema=schema)
        )
    return found
