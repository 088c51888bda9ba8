"""The world outside, for effects: what a participant fakes, or values made up from the types."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from outboxd.participant import Participant

_PLAIN: dict[Any, Callable[[str], Any]] = {
    str: lambda name: name,
    bytes: lambda name: name.encode(),
    int: lambda name: 1,
    float: lambda name: 1.0,
    bool: lambda name: True,
    Decimal: lambda name: Decimal(1),
    datetime: lambda name: datetime(2027, 1, 15, 8, tzinfo=UTC),
    date: lambda name: date(2027, 1, 15),
    timedelta: lambda name: timedelta(seconds=1),
    uuid.UUID: lambda name: uuid.uuid5(uuid.NAMESPACE_OID, name),
    type(None): lambda name: None,
}


def made_up(wanted: Any, name: str) -> Any:
    """A value of the type ``wanted``; texts in it are made of ``name``, so that keys differ."""
    if wanted in _PLAIN:
        return _PLAIN[wanted](name)
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return made_up(args[0], name)
    if origin is typing.Annotated:
        return made_up(args[0], name)
    if origin is typing.Literal:
        return args[0]
    if origin is tuple and args and args[-1] is not Ellipsis:
        return tuple(made_up(arg, f"{name}.{at}") for at, arg in enumerate(args))
    if isinstance(origin or wanted, type):
        return _of_class(origin or wanted, name)
    return None


def _of_class(wanted: type[Any], name: str) -> Any:
    if issubclass(wanted, enum.Enum):
        return next(iter(wanted))
    if issubclass(wanted, msgspec.Struct):
        asked = [field for field in msgspec.structs.fields(wanted) if field.required]
        return wanted(**{field.name: made_up(field.type, name) for field in asked})
    if dataclasses.is_dataclass(wanted):
        hints = typing.get_type_hints(wanted)
        needed = (
            field
            for field in dataclasses.fields(wanted)
            if field.default is field.default_factory is dataclasses.MISSING
        )
        return wanted(**{field.name: made_up(hints[field.name], name) for field in needed})
    if issubclass(wanted, (list, tuple, set, frozenset, dict)):
        return wanted()
    return None


class Stub:
    """Stands for a resource that nobody faked: each of its functions returns a made-up value."""

    def __init__(self, declared: Any) -> None:
        self._declared = declared

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        real = getattr(self._declared, name, None)
        found = inspect.get_annotations(real, eval_str=True) if callable(real) else {}
        wanted = found.get("return", Any)

        async def act(*args: Any, idempotency_key: str = "", **options: Any) -> Any:
            return made_up(wanted, f"{name}-{idempotency_key}".rstrip("-"))

        act.__name__ = name
        act.__annotations__ = {"return": wanted}
        return act


def resource(participant: Participant) -> Any:
    """What ``ctx.resource`` is in a simulation, made anew for each run."""
    if participant.faked is not None:
        return participant.faked()
    return None if participant.lifespan is None else Stub(_declared(participant.lifespan))


def _declared(lifespan: Callable[..., Any]) -> Any:
    """The class that a lifespan yields, as far as its annotation says so."""
    try:
        said = inspect.get_annotations(inspect.unwrap(lifespan), eval_str=True).get("return")
    except NameError:
        return None
    args = typing.get_args(said)
    return args[0] if args else None
