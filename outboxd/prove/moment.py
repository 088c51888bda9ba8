"""A moment of a run, to which it can be brought back: what many schedules begin with is run once.

The databases go back by a savepoint. What services remember is copied; what delivery holds in
memory is an image of its database and is made anew, coroutines of sagas too. Effects under way
cannot be brought back: no moment is taken while there are any.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from outboxd.memory_stream import Log

if TYPE_CHECKING:
    from .world import World

_NODE = (
    "is_up",
    "was_killed",
    "was_stopped",
    "due_at",
    "has_suspects",
    "is_unpublished",
    "is_behind",
    "to_heal",
    "doing",
)
_MEMORY = ("delivery", "committer", "relay", "consumers")
_WORLD = ("hurt", "poisoned", "replayed", "owed", "sent", "away", "steps", "starts")
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, tuple})
_BROKER = ("serial", "_logs", "_accepted", "_markers")


def is_possible(world: World) -> bool:
    """Whether no effect is under way, and what stands for the world outside can be copied."""
    if any(node.effects for node in world.nodes.values()):
        return False
    try:
        copy.deepcopy(world.resources)
    except Exception:
        return False
    return True


class Moment:
    """Of ``world``: taken when it is made; ``again`` as often as wanted, then ``release``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._at = world.clock.at
        self._told = len(world.story)
        self._resources = copy.deepcopy(world.resources)
        self._parts: list[tuple[object, dict[str, Any]]] = [
            (world, _attributes(world, _WORLD)),
            (world.broker, _attributes(world.broker, _BROKER)),
            (world.oracles, copied(vars(world.oracles))),
            (world.operator, copied(vars(world.operator))),
        ]
        for node in world.nodes.values():
            memory = {name: getattr(node, name) for name in _MEMORY if hasattr(node, name)}
            self._parts.append((node, {**_attributes(node, _NODE), **memory}))
            if node.is_up:
                services = (node.relay, *node.consumers.values())
                self._parts += [(service, copied(vars(service))) for service in services]
            node.connection.execute("SAVEPOINT moment")

    def again(self) -> None:
        """Brings the world back."""
        world = self._world
        for node in world.nodes.values():
            node.forget()
            node.connection.execute("ROLLBACK TO moment")
        world.clock.at = self._at
        world.resources = copy.deepcopy(self._resources)
        del world.story[self._told :]
        for owner, attributes in self._parts:
            vars(owner).update(copied(attributes))
        for node in world.nodes.values():
            if node.is_up:
                node.delivery.lose_memory()

    def release(self) -> None:
        """It is not needed any more."""
        for node in self._world.nodes.values():
            node.connection.execute("RELEASE moment")


def _attributes(owner: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: copied(getattr(owner, name)) for name in names}


def copied(value: Any) -> Any:
    """A copy of containers and of the records in them; what they refer to otherwise stays."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, dict):
        if kind is dict:
            return {key: copied(item) for key, item in value.items()}
        again = copy.copy(value)
        for key, item in again.items():
            again[key] = copied(item)
        return again
    if isinstance(value, (list, deque, set)):
        return type(value)(copied(item) for item in value) if value else type(value)()
    if isinstance(value, Log):
        log = Log()
        vars(log).update(copied(vars(value)))
        return log
    if isinstance(value, msgspec.Struct):
        if type(value).__struct_config__.frozen:
            return value
        return copied_struct(value)
    return value


def copied_struct(value: msgspec.Struct) -> msgspec.Struct:
    again = copy.copy(value)
    for name in value.__struct_fields__:
        item = getattr(value, name)
        if isinstance(item, (dict, list, set, deque)):
            setattr(again, name, copied(item))
    return again
