"""What a plugin writes: a Participant with its schema, handlers, sagas and invariants.

Decorators only collect; annotations are resolved when the registry is built, so a mistake is
reported with the plugin's name and not as an import error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

import msgspec

from .clock import seconds
from .errors import ConfigError
from .message import Envelope, Message
from .retry import Policy
from .saga import Saga
from .schedule import Missed, Schedule, schedule
from .tx import Db as Db
from .tx import Step as Step
from .tx import Tx as Tx

P = ParamSpec("P")
T = TypeVar("T")
TxHandler = TypeVar("TxHandler", bound=Callable[[Tx, Any], Any])
EffectHandler = TypeVar("EffectHandler", bound=Callable[["Context", Any], Awaitable[Any]])
SagaCode = TypeVar("SagaCode", bound=Callable[[Saga, Any], Coroutine[Any, Any, Any]])
Faker = TypeVar("Faker", bound=Callable[[], Any])
ScheduledCode = TypeVar("ScheduledCode", bound=Callable[[Tx], None])
Check = TypeVar("Check", bound=Callable[[Db], Iterable[str]])

EFFECT_TIMEOUT_S = 10.0
"""One attempt of an async handler; five of them and their waits fit into a call's minute."""

EFFECT_CONCURRENCY = 16

SAGA_POLICY = Policy(attempts=3, base_s=0.2, cap_s=2.0)
"""A bug in a saga's code rarely heals by itself: soon it is for a person to see."""


_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Effects(Protocol):
    """What carries out a Context's durable steps."""

    async def once(self, name: str, call: Callable[[], Awaitable[Any]], wanted: Any) -> Any: ...
    async def commit(self, fn: Callable[[Tx], Any]) -> Any: ...


class Context:
    """What an async handler holds: it acts on the world, and commits what it learned.

    ``message_id``, ``key``: of the handled message; ``attempt``: from 1; ``step``: in an undo's
    handler, the step to undo; ``resource``: what the participant's ``lifespan`` yielded.
    """

    def __init__(
        self, envelope: Envelope, attempt: int, step: Step | None, resource: Any, effects: Effects
    ) -> None:
        self.message_id = envelope.id
        self.key = envelope.subject
        self.idempotency_key = envelope.idempotencykey or envelope.id
        self.attempt = attempt
        self.step = step
        self.resource = resource
        self._effects = effects

    async def once(
        self, name: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Calls ``fn`` and records its result under ``name``; a retry reuses the recorded result.

        "Started" is committed before the call. A crash between the call and the record calls
        again: at least once, so pass ``idempotency_key=ctx.idempotency_key`` on to the world.
        """
        wanted = inspect.get_annotations(fn, eval_str=True).get("return", Any)
        result: T = await self._effects.once(name, lambda: fn(*args, **kwargs), wanted)
        return result

    async def commit(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs ``fn(tx, …)`` in the one transaction that ends this message; once per message."""
        result: T = await self._effects.commit(lambda tx: fn(tx, *args, **kwargs))
        return result


class Registrar(Protocol):
    """What ``handle(...)`` with options returns: the decorator."""

    @overload
    def __call__(self, fn: EffectHandler, /) -> EffectHandler: ...
    @overload
    def __call__(self, fn: TxHandler, /) -> TxHandler: ...


class SagaRegistrar(Protocol):
    """What ``saga(...)`` with options returns: the decorator."""

    def __call__(self, fn: SagaCode, /) -> SagaCode: ...


class HandlerSpec(msgspec.Struct, frozen=True):
    """A handler as it was declared."""

    fn: Callable[..., Any]
    is_effect: bool
    policy: Policy
    timeout_s: float
    concurrency: int
    hold_key: bool
    since: Literal["now", "retained"]


class SagaSpec(msgspec.Struct, frozen=True):
    """A saga as it was declared."""

    fn: Callable[[Saga, Any], Coroutine[Any, Any, Any]]
    name: str
    version: int
    policy: Policy
    again: Literal["first", "refuse", "after_end"]
    receives: tuple[type[Message], ...] = ()


class ScheduleSpec(msgspec.Struct, frozen=True):
    """A schedule as it was declared; ``name`` is its function's."""

    fn: Callable[[Tx], None]
    name: str
    schedule: Schedule
    policy: Policy


class InvariantSpec(msgspec.Struct, frozen=True):
    """An invariant as it was declared; ``idle`` ones hold only when nothing is under way."""

    text: str
    fn: Callable[[Db], Iterable[str]]
    when: Literal["always", "idle"]


class Participant:
    """One service in the workflow, with a database of its own.

    ``name``: lower case letters, digits and ``-``; ``schema``: SQL that creates its tables, applied
    once; ``migrations``: a folder beside the plugin with numbered ``.sql`` files, applied once each
    in order, instead of ``schema``; ``lifespan``: a function that returns an async context
    manager, whose value handlers find as ``ctx.resource``.
    """

    def __init__(
        self,
        name: str,
        *,
        schema: str | None = None,
        migrations: str | None = None,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} is no name for a participant",
                hint="use lower case letters, digits, - and _",
            )
        if schema is not None and migrations is not None:
            raise ConfigError(f"{name}: give schema= or migrations=, not both")
        caller = inspect.stack()[1]
        self.name = name
        self.module = caller.frame.f_globals.get("__name__", "?")
        self.folder = Path(caller.filename).parent
        self.schema = schema
        self.migrations = migrations
        self.lifespan = lifespan
        self.handlers: list[HandlerSpec] = []
        self.sagas: list[SagaSpec] = []
        self.schedules: list[ScheduleSpec] = []
        self.invariants: list[InvariantSpec] = []
        self.examples: list[Message] = []
        self.faked: Callable[[], Any] | None = None

    def __repr__(self) -> str:
        return f"Participant({self.name!r})"

    @overload
    def handle(self, fn: EffectHandler, /) -> EffectHandler: ...
    @overload
    def handle(self, fn: TxHandler, /) -> TxHandler: ...
    @overload
    def handle(
        self,
        *,
        retry: Policy | None = None,
        timeout: str | float | None = None,
        concurrency: int = EFFECT_CONCURRENCY,
        hold_key: bool = False,
        since: Literal["now", "retained"] = "now",
    ) -> Registrar: ...
    def handle(self, *fn: Any, **options: Any) -> Any:
        """Registers a handler; its second parameter's annotation says for which message.

        ``retry``: its policy; ``timeout`` ("10s"): one attempt of an async handler;
        ``concurrency``: how many of its effects run at once; ``hold_key``: a dead letter blocks its
        key until it is replayed or discarded; ``since``: for an event, from where to subscribe.
        """

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            return self._add_handler(fn, **options)

        return register(*fn) if fn else register

    @overload
    def saga(self, fn: SagaCode, /) -> SagaCode: ...
    @overload
    def saga(
        self,
        *,
        version: int = 1,
        retry: Policy | None = None,
        again: Literal["first", "refuse", "after_end"] = "first",
        receives: Sequence[type[Message]] = (),
    ) -> SagaRegistrar: ...
    def saga(self, *fn: Any, **options: Any) -> Any:
        """Registers a saga; its second parameter's annotation says which message starts it.

        ``again``: what a second start with the same key does: ``"first"`` answers it with the first
        one's result, ``"refuse"`` rejects it, ``"after_end"`` starts anew once the first has ended.
        ``retry``: how often a bug in its code is tried again before the saga is stuck.
        ``receives``: the events and commands that it waits for with ``saga.receive``.
        """

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            return self._add_saga(fn, **options)

        return register(*fn) if fn else register

    def every(
        self,
        interval: str | float | None = None,
        *,
        cron: str | None = None,
        tz: str | None = None,
        missed: Missed = "once",
        retry: Policy | None = None,
    ) -> Callable[[ScheduledCode], ScheduledCode]:
        """Registers a ``def fn(tx: Tx)`` that runs every ``"5m"``, or by a cron expression.

        ``tz``: the cron's time zone, UTC if none; ``missed``: whether firings that nobody was there
        for are made up for by one (``"once"``), by none (``"skip"``) or each (``"all"``, the latest
        hundred). A firing is a message: it is tried again, and in the end a dead letter.
        """
        try:
            plan = schedule(interval, cron=cron, tz=tz, missed=missed)
        except ConfigError as err:
            raise ConfigError(f"{self.name}: {err.message}", hint=err.hint) from err

        def register(fn: ScheduledCode) -> ScheduledCode:
            self.schedules.append(ScheduleSpec(fn, fn.__name__, plan, retry or Policy()))
            return fn

        return register

    def invariant(
        self, text: str, *, when: Literal["always", "idle"] = "always"
    ) -> Callable[[Check], Check]:
        """Registers a function that yields a sentence for each violation of ``text``."""

        def register(fn: Check) -> Check:
            self.invariants.append(InvariantSpec(text, fn, when))
            return fn

        return register

    def example(self, *messages: Message) -> None:
        """Registers messages that start this participant's sagas, for ``outboxd prove``."""
        self.examples += messages

    def fake(self, make: Faker) -> Faker:
        """Registers what stands for ``ctx.resource`` in simulations: made anew for each run.

        Its functions are called; they may keep state in the object and must not really wait. If it
        has a function ``violations``, that is asked at the end of each run, and yields a sentence
        for whatever the world outside should not have seen.
        """
        self.faked = make
        return make

    def _add_handler(
        self,
        fn: Callable[..., Any],
        *,
        retry: Policy | None = None,
        timeout: str | float | None = None,
        concurrency: int = EFFECT_CONCURRENCY,
        hold_key: bool = False,
        since: Literal["now", "retained"] = "now",
    ) -> Callable[..., Any]:
        limit_s = EFFECT_TIMEOUT_S if timeout is None else seconds(timeout)
        is_effect = inspect.iscoroutinefunction(fn)
        policy = retry or Policy()
        spec = HandlerSpec(fn, is_effect, policy, limit_s, concurrency, hold_key, since)
        self.handlers.append(spec)
        return fn

    def _add_saga(
        self,
        fn: Callable[..., Any],
        *,
        version: int = 1,
        retry: Policy | None = None,
        again: Literal["first", "refuse", "after_end"] = "first",
        receives: Sequence[type[Message]] = (),
    ) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(fn):
            raise ConfigError(f"{self.name}: the saga {fn.__name__} must be an async def")
        policy = retry or SAGA_POLICY
        self.sagas.append(SagaSpec(fn, fn.__name__, version, policy, again, tuple(receives)))
        return fn
