"""The planted designs as they are, and with the part that is wrong put right."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

import msgspec

from outboxd.participant import Participant
from outboxd.registry import Registry


def planted(name: str) -> ModuleType:
    return importlib.import_module(f"tests.prove.planted.{name}")


def wrong(module: ModuleType) -> Registry:
    """The module's participants as they stand there."""
    return Registry(_participants(module))


def right(module: ModuleType) -> Registry:
    """The same, with each function that ``RIGHT`` names replaced."""
    return Registry([_corrected(one, module.RIGHT) for one in _participants(module)])


def _participants(module: ModuleType) -> list[Participant]:
    return [value for value in vars(module).values() if isinstance(value, Participant)]


def _corrected(planted: Participant, right: dict[Any, Any]) -> Participant:
    other = Participant(planted.name, schema=planted.schema)
    for spec in planted.handlers:
        fn = right.get(spec.fn, spec.fn)
        is_effect = inspect.iscoroutinefunction(fn)
        other.handlers.append(msgspec.structs.replace(spec, fn=fn, is_effect=is_effect))
    for saga in planted.sagas:
        other.sagas.append(msgspec.structs.replace(saga, fn=right.get(saga.fn, saga.fn)))
    for plan in planted.schedules:
        other.schedules.append(msgspec.structs.replace(plan, fn=right.get(plan.fn, plan.fn)))
    other.invariants, other.examples = planted.invariants, planted.examples
    other.faked = planted.faked
    return other
