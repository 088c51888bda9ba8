"""What a saga's code can ask for: one step, its name and its fingerprint.

Pure values; what a step does is the conductor's affair.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from .clock import seconds, utc
from .errors import SagaMisuse
from .message import Command, Event, Message, encode, encode_raw, fingerprint, key_of

DEFAULT_TIMEOUT_S = 60.0
"""How long a call waits for its answer unless its command or the call says otherwise."""

VERSION_BITS = 32
"""A fingerprint has so many; a mark of the first schema version is nothing else."""

ADDED = 8
"""Of so many defaulted fields, the last ones, each combination may be newer than a journal."""

SHOWN = 200
"""Characters of a message or a result that are shown where it does not fit."""


class Call(msgspec.Struct, frozen=True):
    """Send a command and wait for its answer."""

    command: Command[Any]
    undo: Command[Any] | None
    timeout_s: float
    on_dead: Literal["hold", "fail"]
    strict: bool


class Run(msgspec.Struct, frozen=True):
    """Run a function in the saga's own transaction."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Sleep(msgspec.Struct, frozen=True):
    """Wait for a span of time."""

    span_s: float


class Send(msgspec.Struct, frozen=True):
    """Send a command without waiting."""

    command: Command[Any]
    delay_s: float | None


class Publish(msgspec.Struct, frozen=True):
    """Publish an event."""

    event: Event


class Start(msgspec.Struct, frozen=True):
    """Send a command that starts another saga, without waiting for its end."""

    command: Command[Any]
    undo: Command[Any] | None
    on_cancel: Literal["cancel", "abandon"]


class Join(msgspec.Struct, frozen=True):
    """Wait for the end of what the step at ``start`` has started."""

    command: Command[Any]
    start: int
    timeout_s: float
    strict: bool
    on_dead: Literal["hold", "fail"] = "hold"


class Until(msgspec.Struct, frozen=True):
    """Wait for a moment of the wall clock, in UTC seconds."""

    at: float


class Receive(msgspec.Struct, frozen=True):
    """Wait for a message from elsewhere, by its type and key."""

    message: type[Message]
    key: str
    timeout_s: float
    strict: bool


Action = Call | Run | Sleep | Send | Publish | Start | Join | Until | Receive


class Step(msgspec.Struct, frozen=True):
    """What the code asks for at position ``pos`` (from 1); ``mark`` is its fingerprint."""

    pos: int
    kind: str
    name: str
    mark: int
    action: Action


def limit_s(command: Command[Any], timeout: str | float | None) -> float:
    """How long an answer to ``command`` is waited for."""
    if timeout is not None:
        return seconds(timeout)
    return command.__outboxd__.timeout_s or DEFAULT_TIMEOUT_S


def check_lane(command: Command[Any], undo: Command[Any] | None) -> None:
    if undo is not None and _lane(undo) != _lane(command):
        raise SagaMisuse(
            f"the undo {type(undo).__name__} must have the owner and key of "
            f"{type(command).__name__}, so that it can follow it in its lane"
        )


def _lane(command: Command[Any]) -> tuple[str | None, str | None]:
    return command.__outboxd__.to, key_of(command)


def kind_of(action: Action) -> str:
    return type(action).__name__.lower()


def name_of(action: Action) -> str:
    match action:
        case Publish(event=message):
            return type(message).__name__
        case Call(command=asked) | Send(command=asked) | Start(command=asked) | Join(command=asked):
            return type(asked).__name__
        case Run(fn=fn):
            return getattr(fn, "__name__", repr(fn))
        case Sleep(span_s=span_s):
            return f"{span_s:g}s"
        case Until(at=at):
            return f"{utc(at):%Y-%m-%dT%H:%M:%S.%fZ}"
        case Receive(message=awaited):
            return awaited.__name__


def content_of(action: Action) -> str:
    match action:
        case Call(command=message) | Send(command=message) | Start(command=message):
            return shown(bytes(encode_raw(message)))
        case Publish(event=event):
            return shown(bytes(encode_raw(event)))
        case _:
            return ""


def shown(data: bytes) -> str:
    """JSON for a line that a person reads."""
    text = data.decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def mark_of(action: Action) -> int:
    """The fingerprint of a step; above its 32 bits a message's schema version, less one."""
    match action:
        case Call(command=message) | Send(command=message) | Start(command=message):
            return _mark_of(message)
        case Publish(event=event):
            return _mark_of(event)
        case Receive(message=awaited, key=key):
            return _with_version(fingerprint(name_of(action), key.encode()), awaited)
        case Join(start=start):
            return fingerprint(name_of(action), str(start).encode())
        case _:
            return fingerprint(kind_of(action), name_of(action).encode())


def _mark_of(message: Message) -> int:
    return _with_version(fingerprint(type(message).__name__, encode_raw(message)), message)


def _with_version(crc: int, message: Message | type[Message]) -> int:
    return crc | (message.__outboxd__.version - 1) << VERSION_BITS


def version_of(mark: int) -> int:
    """The schema version of the message that a step was recorded with."""
    return (mark >> VERSION_BITS) + 1


def is_named(action: Action, name: str) -> bool:
    """Whether a step may have been recorded under ``name``: its own, or its message's older one."""
    if name == name_of(action):
        return True
    match action:
        case Receive(message=awaited):
            return name in awaited.__outboxd__.aliases
        case Join(command=command):
            return name in command.__outboxd__.aliases
    message = _message_of(action)
    return message is not None and name in message.__outboxd__.aliases


def is_marked(action: Action, name: str, mark: int) -> bool:
    """Whether a step, recorded under ``name``, may have had this fingerprint.

    What an older schema version wrote is not comparable with what the code asks for now: then the
    name is enough. Within a version a field may have been added since, with a default.
    """
    crc, version = mark & (1 << VERSION_BITS) - 1, version_of(mark)
    match action:
        case Join(start=start):
            return mark == fingerprint(name, str(start).encode())
        case Receive(message=awaited, key=key):
            is_known = version <= awaited.__outboxd__.version
            return is_known and crc == fingerprint(name, key.encode())
    message = _message_of(action)
    if message is None:
        return mark == mark_of(action)
    if version != message.__outboxd__.version:
        return version < message.__outboxd__.version
    return any(crc == fingerprint(name, data) for data in _older(message))


def _message_of(action: Action) -> Message | None:
    match action:
        case Call(command=message) | Send(command=message) | Start(command=message):
            return message
        case Publish(event=event):
            return event
        case _:
            return None


def _older(message: Message) -> Iterator[bytes]:
    """A message as it is written, and as it was before some of its defaulted fields were added."""
    written = encode(message)
    yield written
    data: dict[str, Any] = msgspec.json.decode(written)
    added = _defaulted(message)[-ADDED:]
    for count in range(1, len(added) + 1):
        for left_out in itertools.combinations(added, count):
            yield encode({name: value for name, value in data.items() if name not in left_out})


def _defaulted(message: Message) -> list[str]:
    """The fields that have their default."""
    found = []
    for field in msgspec.structs.fields(type(message)):  # type: ignore[arg-type]  # it is a Struct
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if default is not msgspec.NODEFAULT and getattr(message, field.name) == default:
            found.append(field.encode_name)
    return found
