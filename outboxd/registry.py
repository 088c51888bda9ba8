"""Message type to handler or saga: the static graph, which refuses ambiguity at start."""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from .errors import ConfigError
from .message import Command, Event, Message, MessageDeadLettered, reply_type
from .participant import Context, HandlerSpec, Participant, SagaSpec, ScheduleSpec, Tx
from .saga import DEFAULT_TIMEOUT_S, Saga
from .words import nearest


class Handler(msgspec.Struct, frozen=True):
    """A handler, resolved: for which message, answered with what."""

    participant: str
    name: str
    type_name: str
    message: type[Message]
    reply: Any
    spec: HandlerSpec

    @property
    def is_effect(self) -> bool:
        return self.spec.is_effect


class SagaKind(msgspec.Struct, frozen=True):
    """A saga, resolved: what starts it and what it returns."""

    participant: str
    name: str
    type_name: str
    message: type[Message]
    result: Any
    spec: SagaSpec


class Registry:
    """What the hosted participants handle. Raises ConfigError for whatever is ambiguous."""

    def __init__(self, participants: Iterable[Participant]) -> None:
        self.participants: dict[str, Participant] = {}
        self.handlers: dict[tuple[str, str], Handler] = {}
        self.sagas: dict[tuple[str, str], SagaKind] = {}
        self._receivers: dict[tuple[str, str], list[SagaKind]] = {}
        self.messages: dict[str, type[Message]] = {"MessageDeadLettered": MessageDeadLettered}
        self.schedules: dict[str, dict[str, ScheduleSpec]] = {}
        self._aliases: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        for participant in participants:
            if participant.name in self.participants:
                other = self.participants[participant.name]
                raise ConfigError(
                    f"two participants are called {participant.name!r}: "
                    f"in {other.module} and in {participant.module}"
                )
            self.participants[participant.name] = participant
            self._add(participant)
        self._check_calls()

    def owner(self, type_name: str) -> str | None:
        """The hosted participant that owns this command, or starts a saga on it."""
        return self._owners.get(self._today(type_name))

    def message(self, type_name: str) -> type[Message] | None:
        """A message class by its name, or by one that it had before."""
        return self.messages.get(self._today(type_name))

    def handler(self, participant: str, type_name: str) -> Handler | None:
        return self.handlers.get((participant, self._today(type_name)))

    def saga_started_by(self, participant: str, type_name: str) -> SagaKind | None:
        return self.sagas.get((participant, self._today(type_name)))

    def saga_named(self, participant: str, name: str) -> SagaKind | None:
        found = (
            k for (owner, _), k in self.sagas.items() if owner == participant and k.name == name
        )
        return next(found, None)

    def receivers(self, participant: str, type_name: str) -> list[SagaKind]:
        """The sagas that may wait for a message of this type."""
        return self._receivers.get((participant, self._today(type_name)), [])

    def names(self, type_name: str) -> tuple[str, ...]:
        """All names of a message: today's first, then those that it had before."""
        message = self.message(type_name)
        return (type_name,) if message is None else (message.__name__, *message.__outboxd__.aliases)

    def subscriptions(self, participant: str) -> dict[str, typing.Literal["now", "retained"]]:
        """Publisher to where this participant's subscription begins."""
        found: dict[str, typing.Literal["now", "retained"]] = {}
        for message, since in self._events_of(participant):
            source = message.__outboxd__.source
            for publisher in self.participants if source == "*" else (source or "",):
                if publisher and found.get(publisher) != "retained":
                    found[publisher] = since
        return found

    def nearest(self, type_name: str) -> str | None:
        """The known message type that looks most like a mistyped one."""
        return nearest(type_name, self.messages)

    def unowned(self) -> list[str]:
        """A warning for each command that a saga sends and no hosted participant owns."""
        wanted = {
            (kind.participant, command)
            for kind in self.sagas.values()
            for command, _ in calls_in(kind.spec.fn)
        }
        return [
            f"{command.__name__} (sent by {sender}) belongs to {command.__outboxd__.to!r}, "
            "which is not hosted here"
            for sender, command in sorted(wanted, key=lambda pair: pair[1].__name__)
            if command.__outboxd__.to not in self.participants
        ]

    def _today(self, type_name: str) -> str:
        return self._aliases.get(type_name, type_name)

    def _check_calls(self) -> None:
        """A saga must not call what its hosted addressee has no handler for."""
        for kind in self.sagas.values():
            for command in (c for pair in calls_in(kind.spec.fn) for c in pair if c is not None):
                to = command.__outboxd__.to
                if to in self.participants and self.owner(command.__name__) != to:
                    raise ConfigError(
                        f"{kind.participant}: saga {kind.name} sends {command.__name__}, "
                        f"which {to} has no handler for"
                    )

    def _events_of(
        self, participant: str
    ) -> Iterator[tuple[type[Message], typing.Literal["now", "retained"]]]:
        for handler in self.handlers.values():
            if handler.participant == participant and issubclass(handler.message, Event):
                yield handler.message, handler.spec.since
        for kind in self.sagas.values():
            if kind.participant == participant:
                for message in (kind.message, *kind.spec.receives):
                    if issubclass(message, Event):
                        yield message, "now"

    def _add(self, participant: Participant) -> None:
        for spec in participant.handlers:
            where = f"{participant.module}: handler {spec.fn.__name__}"
            message, answer = _resolve(spec.fn, Context if spec.is_effect else Tx, where)
            handler = Handler(
                participant.name,
                f"{participant.name}.{spec.fn.__name__}",
                message.__name__,
                message,
                _checked_reply(message, answer, where),
                spec,
            )
            _check_budget(handler, where)
            self._claim(participant.name, message, where)
            self.handlers[participant.name, message.__name__] = handler
        for saga in participant.sagas:
            where = f"{participant.module}: saga {saga.name}"
            message, answer = _resolve(saga.fn, Saga, where)
            if message.__outboxd__.key is None:
                raise ConfigError(
                    f"{where}: its start message {message.__name__} has no key",
                    hint='the key identifies the saga: write key="field" in the message\'s class',
                )
            self._claim(participant.name, message, where)
            _check_undos(saga.fn, where)
            _checked_reply(message, answer, where)
            for command, _ in calls_in(saga.fn):
                self._know(command, where)
            kind = SagaKind(participant.name, saga.name, message.__name__, message, answer, saga)
            self.sagas[participant.name, message.__name__] = kind
            self._receive(kind, where)
        self._schedule(participant)

    def _receive(self, kind: SagaKind, where: str) -> None:
        """What a saga waits for with ``saga.receive``."""
        for message in kind.spec.receives:
            _check_receivable(message, where)
            name = message.__name__
            if issubclass(message, Command):
                if self.receivers(kind.participant, name):
                    raise ConfigError(f"{where}: another saga already receives the command {name}")
                self._claim(kind.participant, message, where)
            else:
                self._know(message, where)
            handler = self.handler(kind.participant, name)
            if handler is not None and handler.is_effect:
                raise ConfigError(
                    f"{where}: {name} is handled by an async handler of {kind.participant} as well",
                    hint="let a def handler take it, or another participant",
                )
            self._receivers.setdefault((kind.participant, name), []).append(kind)
        for message in _received(kind.spec.fn):
            if message not in kind.spec.receives:
                raise ConfigError(
                    f"{where}: it receives {message.__name__}, and does not say so",
                    hint=f"write @{kind.participant}.saga(receives=({message.__name__},))",
                )

    def _schedule(self, participant: Participant) -> None:
        for plan in participant.schedules:
            where = f"{participant.module}: schedule {plan.name}"
            _check_scheduled(plan.fn, where)
            if plan.name in self.schedules.setdefault(participant.name, {}):
                raise ConfigError(f"{where}: {participant.name} has one of that name already")
            self.schedules[participant.name][plan.name] = plan

    def _claim(self, participant: str, message: type[Message], where: str) -> None:
        name = message.__name__
        if (participant, name) in self.handlers or (participant, name) in self.sagas:
            raise ConfigError(f"{where}: {participant} already handles {name}")
        self._know(message, where)
        if issubclass(message, Command):
            owner = message.__outboxd__.to
            if owner != participant:
                raise ConfigError(
                    f"{where}: {name} belongs to {owner!r}, not to {participant!r}",
                    hint=f'handle it there, or write to="{participant}" in its class',
                )
            self._owners[name] = participant

    def _know(self, message: type[Message], where: str) -> None:
        for name in (message.__name__, *message.__outboxd__.aliases):
            known = self.message(name)
            if known is not None and known is not message:
                raise ConfigError(
                    f"{where}: two message types are called {name}: "
                    f"in {known.__module__} and in {message.__module__}",
                    hint="an older name, in aliases=, counts as well",
                )
        self.messages[message.__name__] = message
        self._aliases |= dict.fromkeys(message.__outboxd__.aliases, message.__name__)
        if issubclass(message, Event) and message.__outboxd__.source is None:
            raise ConfigError(
                f"{where}: the event {message.__name__} does not say who publishes it",
                hint=f'write class {message.__name__}(Event, source="participant", …)',
            )
        key = message.__outboxd__.key
        if key is not None and key not in message.__struct_fields__:  # type: ignore[attr-defined]
            raise ConfigError(
                f"{message.__module__}.{message.__name__}: its key {key!r} is no field of it",
                hint=f"its fields are {', '.join(message.__struct_fields__)}",  # type: ignore[attr-defined]
            )


def _resolve(fn: Callable[..., Any], first: type, where: str) -> tuple[type[Message], Any]:
    """The message class and the return annotation of a handler or a saga."""
    try:
        hints = typing.get_type_hints(fn)
    except Exception as err:
        raise ConfigError(f"{where}: its annotations do not resolve: {err}") from err
    names = list(inspect.signature(fn).parameters)
    if len(names) != 2:
        raise ConfigError(f"{where}: it must take two parameters, ({first.__name__}, a message)")
    missing = [name for name in names if name not in hints]
    if missing or "return" not in hints:
        raise ConfigError(
            f"{where}: no annotation for {missing[0] if missing else 'what it returns'}",
            hint=f"write ({names[0]}: {first.__name__}, {names[1]}: TheMessage) -> TheReply",
        )
    if hints[names[0]] is not first:
        kind = (
            "an async handler" if first is Context else "a def handler" if first is Tx else "a saga"
        )
        raise ConfigError(f"{where}: the first parameter of {kind} is a {first.__name__}")
    message = hints[names[1]]
    if not (isinstance(message, type) and issubclass(message, (Command, Event))):
        raise ConfigError(f"{where}: {names[1]} must be annotated with one Command or Event")
    return message, hints["return"]


def _check_scheduled(fn: Callable[..., Any], where: str) -> None:
    if inspect.iscoroutinefunction(fn):
        raise ConfigError(
            f"{where}: it must be a def that takes a Tx",
            hint="let it send a command; an async handler of that command acts on the world",
        )
    try:
        hints = typing.get_type_hints(fn)
    except Exception as err:
        raise ConfigError(f"{where}: its annotations do not resolve: {err}") from err
    names = list(inspect.signature(fn).parameters)
    if len(names) != 1 or hints.get(names[0]) is not Tx:
        raise ConfigError(f"{where}: it must take one parameter", hint="write (tx: Tx) -> None")


def _checked_reply(message: type[Message], answer: Any, where: str) -> Any:
    if not issubclass(message, Command):
        return None
    wanted = reply_type(message)
    wanted = type(None) if wanted is None else wanted
    if answer != wanted:
        raise ConfigError(
            f"{where}: it returns {_text(answer)}, but {message.__name__} is answered with "
            f"{_text(wanted)}"
        )
    return wanted


def _check_budget(handler: Handler, where: str) -> None:
    """A call must not time out while its own retries still run."""
    if not issubclass(handler.message, Command):
        return
    limit = handler.message.__outboxd__.timeout_s or DEFAULT_TIMEOUT_S
    budget = handler.spec.policy.budget_s(handler.spec.timeout_s if handler.is_effect else 0.0)
    if budget > limit:
        raise ConfigError(
            f"{where}: its retries may take {budget:.0f} s, but a call of {handler.type_name} "
            f"waits {limit:.0f} s",
            hint="lower retry= or timeout= of the handler, or raise timeout= of the command",
        )


def _check_undos(fn: Callable[..., Any], where: str) -> None:
    for command, undo in calls_in(fn):
        if undo is None:
            continue
        ours, theirs = command.__outboxd__, undo.__outboxd__
        if ours.to != theirs.to or (ours.key is None) != (theirs.key is None):
            raise ConfigError(
                f"{where}: the undo {undo.__name__} does not travel in the lane of "
                f"{command.__name__}",
                hint="an undo has the same owner and the same key as its step",
            )


def _check_receivable(message: type[Message], where: str) -> None:
    name = getattr(message, "__name__", repr(message))
    if not (isinstance(message, type) and issubclass(message, (Command, Event))):
        raise ConfigError(f"{where}: receives= takes events and commands, not {name}")
    if message.__outboxd__.key is None:
        raise ConfigError(
            f"{where}: it receives {name}, which has no key",
            hint='a saga is found by its key: write key="field" in the message\'s class',
        )
    if issubclass(message, Command) and reply_type(message) not in (None, type(None)):
        raise ConfigError(
            f"{where}: it receives the command {name}, which is answered with "
            f"{_text(reply_type(message))}",
            hint="what a saga receives is not answered: write Command[None]",
        )


def _received(fn: Callable[..., Any]) -> Iterator[type[Message]]:
    """The messages that a saga's source receives, as far as they are literal."""
    for node in _method_calls(fn, "receive"):
        name = node.args[0]
        found = _global(fn, name.id) if isinstance(name, ast.Name) else None
        if isinstance(found, type) and issubclass(found, (Command, Event)):
            yield found


def _method_calls(fn: Callable[..., Any], *names: str) -> Iterator[ast.Call]:
    """Calls of methods with these names and an argument, in a function's source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(fn)))
    except (OSError, SyntaxError, TypeError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=[_, *_]) if name in names:
                yield node


def calls_in(fn: Callable[..., Any]) -> Sequence[tuple[type[Message], type[Message] | None]]:
    """The commands that a saga's source calls, with their undos, as far as they are literal."""
    found: list[tuple[type[Message], type[Message] | None]] = []
    for node in _method_calls(fn, "call", "start", "send"):
        command = _message_built(node.args[0], fn)
        undo = next((k.value for k in node.keywords if k.arg == "undo"), None)
        if command is not None and issubclass(command, Command):
            found.append((command, None if undo is None else _message_built(undo, fn)))
    return found


def _message_built(node: ast.expr, fn: Callable[..., Any]) -> type[Message] | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return None
    named = _global(fn, node.func.id)
    return named if isinstance(named, type) and issubclass(named, (Command, Event)) else None


def _global(fn: Callable[..., Any], name: str) -> object:
    return inspect.unwrap(fn).__globals__.get(name)


def _text(annotation: Any) -> str:
    return "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))
