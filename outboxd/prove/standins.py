"""Stand-ins for participants that are not hosted: a saga is tested without whom it calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from outboxd.message import Command, Message, reply_type
from outboxd.participant import Participant, Tx
from outboxd.registry import Registry, calls_in

from .fakes import made_up


class StandIns:
    """Answers for them. ``replies``: by type of command, what is no made-up value."""

    def __init__(self, registry: Registry) -> None:
        self.replies: dict[str, Any] = {}
        self.participants: dict[str, Participant] = {}
        for command in _wanted(registry):
            self._add(command)

    def _add(self, command: type[Command[Any]]) -> None:
        name = command.__outboxd__.to or ""
        if name not in self.participants:
            self.participants[name] = Participant(name)
        reply = reply_type(command)

        def answer(tx: Tx, cmd: Any) -> Any:
            return self.replies.get(command.__name__, made_up(reply, tx.key or name))

        answer.__name__ = f"answer_{command.__name__}"
        answer.__annotations__ = {"tx": Tx, "cmd": command, "return": reply}
        self.participants[name].handle(answer)


def _wanted(registry: Registry) -> Iterable[type[Command[Any]]]:
    """The commands that the sagas send, as far as nobody here takes them."""
    found: dict[str, type[Message]] = {}
    for kind in registry.sagas.values():
        for pair in calls_in(kind.spec.fn):
            found |= {message.__name__: message for message in pair if message is not None}
    for message in found.values():
        if issubclass(message, Command) and message.__outboxd__.to not in registry.participants:
            yield message
