"""What travels: commands and events as typed structs, and the CloudEvents envelope around them.

Two-step decoding: the envelope first, with ``data`` left as raw bytes; the payload only once the
receiver's type is known. So an unknown type or a wrong field is the receiver's dead letter, and
the original bytes are what is forwarded, stored and replayed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, dataclass_transform, get_args

import msgspec

from .clock import seconds
from .errors import ConfigError, OutboxdError, plain

R_co = TypeVar("R_co", covariant=True)

_OURS = ("to", "source", "key", "timeout", "version", "aliases", "upcast")

Upcast = Callable[[dict[str, Any], int], dict[str, Any]]
"""``upcast(data, version)``: the data of an older schema version as today's class has it."""

MAX_VERSION = 1_000_000
"""It shares a 64-bit number with the fingerprint of a step."""

MAX_ENVELOPE_BYTES = 256 * 1024
"""A larger body stops the broker's single thread for milliseconds; keep it in a table or a blob."""


NUMBERS_BYTES = 256
"""What the numbers add to a document when it is published."""


MAX_KEY = 1024


class BadKey(OutboxdError):
    """A message's key is too long; the limit is 1,024 characters."""


class Spec(msgspec.Struct, frozen=True):
    """What the class keywords of a message say."""

    to: str | None = None
    source: str | None = None
    key: str | None = None
    timeout_s: float | None = None
    version: int = 1
    aliases: tuple[str, ...] = ()
    upcast: Upcast | None = None


def _check_evolution(name: str, spec: Spec) -> None:
    """Raises ConfigError for a class whose versions or names cannot be meant."""
    if not isinstance(spec.version, int) or not 1 <= spec.version <= MAX_VERSION:
        raise ConfigError(f"{name}: version={spec.version!r} is no version", hint="1, 2, 3 and on")
    if spec.upcast is not None and spec.version == 1:
        raise ConfigError(
            f"{name}: upcast= has no older version to start from", hint="write version=2 as well"
        )
    aliases: object = spec.aliases
    if not isinstance(aliases, tuple) or name in aliases:
        raise ConfigError(
            f"{name}: aliases={spec.aliases!r} are not its older names",
            hint='write aliases=("OldName",)',
        )


if TYPE_CHECKING:  # what a type checker sees: mypy skips __init_subclass__ under a metaclass

    @dataclass_transform(
        frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,)
    )
    class Message:
        """Base of Command and Event."""

        __outboxd__: Spec

    class Command(Message, Generic[R_co]):
        """A request to the one participant that owns it; ``R_co`` is the type of its reply.

        ``to``: that participant; ``key``: the field by which its order is kept; ``timeout``: how
        long a saga waits for the answer, as "30s" (default 1 minute). ``version``, ``upcast``,
        ``aliases``: of its schema, see ``Upcast``, and the names that the class had before.
        """

        def __init_subclass__(
            cls,
            *,
            to: str,
            key: str | None = None,
            timeout: str | None = None,
            version: int = 1,
            aliases: tuple[str, ...] = (),
            upcast: Upcast | None = None,
        ) -> None: ...

    class Event(Message):
        """A fact, published by ``source`` for whoever subscribes; ``key`` keeps its order."""

        def __init_subclass__(
            cls,
            *,
            source: str,
            key: str | None = None,
            version: int = 1,
            aliases: tuple[str, ...] = (),
            upcast: Upcast | None = None,
        ) -> None: ...

else:

    class _MessageMeta(msgspec.StructMeta):
        """Keeps our class keywords, hands msgspec the rest; messages are frozen, keyword-only."""

        def __new__(mcls, name, bases, namespace, **keywords):
            ours = {k: keywords.pop(k) for k in _OURS if k in keywords}
            keywords = {"frozen": True, "kw_only": True, **keywords}
            cls = super().__new__(mcls, name, bases, namespace, **keywords)
            timeout = ours.pop("timeout", None)
            cls.__outboxd__ = Spec(**ours, timeout_s=None if timeout is None else seconds(timeout))
            _check_evolution(name, cls.__outboxd__)
            return cls

        def __init__(cls, name, bases, namespace, **keywords):
            super().__init__(name, bases, namespace)

    class Message(msgspec.Struct, metaclass=_MessageMeta):
        """Base of Command and Event."""

    class Command(Message, Generic[R_co]):
        """A request to the one participant that owns it; ``R_co`` is the type of its reply.

        ``to``: that participant; ``key``: the field by which its order is kept; ``timeout``: how
        long a saga waits for the answer, as "30s" (default 1 minute).
        """

    class Event(Message):
        """A fact, published by ``source`` for whoever subscribes; ``key`` keeps its order."""


class MessageDeadLettered(Event, source="*", key="message_id"):
    """Published by a participant when a message becomes its dead letter: an alert is a handler.

    Never published about a letter whose own message is a MessageDeadLettered.
    """

    participant: str
    letter: str
    message_id: str
    message_type: str
    message_key: str | None
    handler: str
    error: str
    attempts: int


def reply_type(command: type[Command[Any]]) -> Any:
    """The ``Reply`` of a ``Command[Reply]`` subclass; ConfigError if it was left out."""
    for base in getattr(command, "__orig_bases__", ()):
        if getattr(base, "__origin__", None) is Command:
            return get_args(base)[0]
    raise ConfigError(
        f"{command.__name__} does not say what it is answered with",
        hint=f"write class {command.__name__}(Command[Reply], …), or Command[None]",
    )


def key_of(message: Message) -> str | None:
    """The message's key as text, or None if its class names none."""
    field = message.__outboxd__.key
    key = None if field is None else str(getattr(message, field))
    if key is not None and len(key) > MAX_KEY:
        raise BadKey(f"the key of {type(message).__name__} has {len(key):,} characters")
    return key


MAX_NAME = 2048

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
"""An id or a key: it is repeated in answers and letters, which must fit into a message as well."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A number that a database can hold."""


UNTIMED = datetime(1, 1, 1, tzinfo=UTC)
"""The time of a document that has none."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A CloudEvents 1.0 document (structured JSON mode); our attributes are its extensions.

    ``subject`` is the key. ``kind`` is command, event, reply, undo, close or a framework's note.
    ``epoch`` and ``seq`` number the entry on its stream; foreign producers leave them out, and
    ``time`` if they want: then it is the moment in which it is taken.
    Unknown attributes are ignored, so an older reader can take a newer writer's messages.
    """

    specversion: str
    id: Name
    type: Name
    source: Name
    time: datetime = UNTIMED
    subject: Name | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    kind: Name = "event"
    correlationid: Name | None = None
    causationid: Name | None = None
    replyto: Name | None = None
    call: Number | None = None
    outcome: Name | None = None
    undoes: Name | None = None
    idempotencykey: Name | None = None
    deadline: datetime | None = None
    schemaversion: int = 1
    traceparent: str | None = None
    epoch: Number = 0
    seq: Number = 0

    @property
    def is_undo(self) -> bool:
        """Whether it undoes or closes a step (an answer to that names the step too)."""
        return self.kind == "undo" or self.kind == "close"


class Undecodable(OutboxdError):
    """The bytes are no message envelope."""


_ENCODER = msgspec.json.Encoder()
_ENVELOPES = msgspec.json.Decoder(Envelope)
_PAYLOADS: dict[Any, msgspec.json.Decoder[Any]] = {}

# msgspec does not wrap these three; deep nesting and invalid UTF-8 come from strangers.
BAD_BYTES = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError)


def encode(value: object) -> bytes:
    """``value`` as JSON."""
    return _ENCODER.encode(value)


class TooBig(OutboxdError):
    """A message is larger than what travels."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the message has {size:,} bytes; the limit is {MAX_ENVELOPE_BYTES:,}",
            hint="keep large content in a table or a file and send where it is",
        )


def checked_size(body: bytes) -> bytes:
    """``body``, if it may travel; raises TooBig."""
    if len(body) > MAX_ENVELOPE_BYTES:
        raise TooBig(len(body))
    return body


def brief(said: object) -> str:
    """An error as it travels and is kept: a person reads it, and it must fit."""
    text = plain(said)
    return text if len(text) <= 2000 else f"{text[:2000]} … ({len(text):,} characters)"


def encode_raw(value: object) -> msgspec.Raw:
    """``value`` as JSON that stays as it is inside an envelope."""
    return msgspec.Raw(_ENCODER.encode(value))


def decode_envelope(body: bytes) -> Envelope:
    """Raises Undecodable with the reason; the size is checked before anything is parsed."""
    if len(body) > MAX_ENVELOPE_BYTES + NUMBERS_BYTES:
        raise Undecodable(TooBig(len(body)).message)
    try:
        envelope = _ENVELOPES.decode(body)
    except BAD_BYTES as err:
        raise Undecodable(f"not a CloudEvents document: {err}") from err
    if envelope.specversion != "1.0":
        raise Undecodable(f"specversion {envelope.specversion!r} is not 1.0")
    return envelope


def decode_data(data: bytes | msgspec.Raw, wanted: Any) -> Any:
    """``data`` as ``wanted``; raises Undecodable with the path of the first wrong field."""
    decoder = _PAYLOADS.get(wanted)
    if decoder is None:
        decoder = _PAYLOADS[wanted] = msgspec.json.Decoder(wanted)
    try:
        return decoder.decode(data)
    except BAD_BYTES as err:
        name = getattr(wanted, "__name__", str(wanted))
        raise Undecodable(f"{name}: {err}") from err


def decode_message(envelope: Envelope, wanted: type[Message]) -> Any:
    """An envelope's data as a message of today, whatever version wrote it; raises Undecodable."""
    return decode_version(envelope.data, envelope.schemaversion, wanted)


def decode_version(data: bytes | msgspec.Raw, version: int, wanted: type[Message]) -> Any:
    """``data``, written by a schema version, as a message of today; raises Undecodable."""
    spec = wanted.__outboxd__
    if spec.upcast is None or version >= spec.version:
        return decode_data(data, wanted)
    old: dict[str, Any] = decode_data(data, dict[str, Any])
    try:
        written = encode(spec.upcast(old, version))
    except Exception as err:
        raise Undecodable(
            f"{wanted.__name__}: its upcast from version {version} raises "
            f"{type(err).__name__}: {err}"
        ) from err
    return decode_data(written, wanted)


def numbered(body: bytes, epoch: int, seq: int) -> bytes:
    """The document with its numbers; they join at publishing, so a stored row never changes."""
    return b'%b,"epoch":%d,"seq":%d}' % (body.rstrip()[:-1], epoch, seq)


def fingerprint(name: str, data: bytes | msgspec.Raw) -> int:
    """A number that differs when a replayed saga asks for something else than it once did."""
    return zlib.crc32(data, zlib.crc32(name.encode()))


def in_stream(participant: str) -> str:
    """The stream of commands and replies to a participant; braces are a Redis Cluster hash tag."""
    return f"outboxd:{{{participant}}}:in"


def events_stream(participant: str) -> str:
    """The stream of what a participant publishes."""
    return f"outboxd:{{{participant}}}:events"


def stream_name(stream: str) -> tuple[str, str]:
    """(participant, "in" or "events") of a stream of ours."""
    name, _, kind = stream.removeprefix("outboxd:{").partition("}:")
    return name, kind
