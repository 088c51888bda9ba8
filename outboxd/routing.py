"""Message → code: what of one participant a message is for.

Pure: it knows the registry, and no database.
"""

from __future__ import annotations

from .message import Envelope
from .registry import Handler, Registry, SagaKind

_MOVES = ("reply", "due", "received", "cancel")
"""Kinds of messages that a saga's code is moved by."""


class Unroutable(Exception):
    """No handler here for this type."""


class Routing:
    """The code of one participant, by the messages that it takes."""

    def __init__(self, participant: str, registry: Registry) -> None:
        self._name = participant
        self._registry = registry

    def handler(self, envelope: Envelope) -> Handler:
        """Raises Unroutable, with the nearest known type."""
        handler = self._registry.handler(self._name, envelope.type)
        if handler is None:
            near = self._registry.nearest(envelope.type)
            hint = f"; did you mean {near}?" if near and near != envelope.type else ""
            raise Unroutable(f"{self._name} has no handler for {envelope.type}{hint}")
        return handler

    def has_handler(self, envelope: Envelope) -> bool:
        """Whether it is for us: a publisher's stream has all of its events."""
        return self._registry.handler(self._name, envelope.type) is not None

    def is_effect(self, envelope: Envelope) -> bool:
        """Whether an async handler takes it."""
        is_handled = envelope.kind in ("command", "event", "undo")
        return is_handled and self.acts_outside(envelope.type)

    def acts_outside(self, type_name: str) -> bool:
        """Whether a type's handler is async: what it has done outside is not rolled back."""
        handler = self._registry.handler(self._name, type_name)
        return handler is not None and handler.is_effect

    def starts(self, envelope: Envelope) -> SagaKind | None:
        """The saga that begins with it here, if one does."""
        if envelope.kind not in ("command", "event"):
            return None
        return self._registry.saga_started_by(self._name, envelope.type)

    def moves_saga(self, envelope: Envelope) -> bool:
        """Whether a failure of it is one of a saga's code."""
        return envelope.kind in _MOVES or self.starts(envelope) is not None
