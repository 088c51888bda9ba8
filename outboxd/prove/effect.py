"""An effect under way in the simulator: it stops where others may come in between."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from msgspec import UNSET

from outboxd.batch import Started
from outboxd.effects import NotCommitted
from outboxd.errors import Unavailable
from outboxd.message import decode_message
from outboxd.participant import Context
from outboxd.plugins import line_of

from . import waiting, ways
from .fakes import Stub, made_up
from .guard import OutsideTouched, guarded
from .nature import OutsideFailed
from .node import said
from .oracles import Violated
from .store import Killed

if TYPE_CHECKING:
    from .node import Node

P = ParamSpec("P")
T = TypeVar("T")


class SimContext(Context):
    """A Context whose calls to the outside are the simulator's."""

    effect: Effect

    async def once(
        self, name: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self.effect.call = (fn, key_among(self, args, kwargs))
        return await super().once(name, fn, *args, **kwargs)


def key_among(context: Context, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """By what the outside can tell a repeated call: its key, or an argument that contains it."""
    if options.get("idempotency_key") is not None:
        return options["idempotency_key"]
    known = [context.idempotency_key, context.message_id]
    known += [context.step.message_id] if context.step is not None else []
    for value in (*args, *options.values()):
        if isinstance(value, str) and any(key in value for key in known):
            return value
    return None


class Watched:
    """A resource whose functions may fail also where an effect calls them without ``once``."""

    def __init__(self, resource: Any, effect: Effect) -> None:
        self._resource = resource
        self._effect = effect

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._resource, name)
        if any(found is part for part in getattr(self._resource, "__dict__", {}).values()):
            return Watched(found, self._effect) if _is_client(found) else found
        if not inspect.iscoroutinefunction(found):
            return found

        @functools.wraps(found)
        async def call(*args: Any, **options: Any) -> Any:
            return await self._effect.act(name, found, args, options)

        return call


def _is_client(value: object) -> bool:
    """Whether it may have functions that act outside: no plain value, no container."""
    return hasattr(value, "__dict__") and not callable(value)


class Effect:
    """One attempt of an async handler. ``is_ready``: whether it can go on."""

    def __init__(self, node: Node, started: Started) -> None:
        self.node = node
        self.started = started
        self.n = started.held.n
        self.is_ready = True
        self.phase = 0
        self.call: tuple[Any, Any] | None = None
        self.is_in_once = False
        handler = started.handler
        assert handler is not None
        self.ends_at = node.world.clock.at + handler.spec.timeout_s
        self._coroutine = self._run()

    def __str__(self) -> str:
        return said(self.started.envelope)

    def go_on(self) -> bool:
        """Runs to the next place where it can be interrupted; returns whether it has ended."""
        self.phase += 1
        try:
            with guarded(files_too=False):
                asked = self._coroutine.send(None)
        except StopIteration:
            return True
        except OutsideTouched as err:
            raise self._astray(line_of(err), f"touches the real world outside: {err}") from err
        if asked is not None:
            place = waiting.waits_at(self._coroutine)
            raise self._astray(place, f"waits for {type(asked).__name__}")
        return False

    def time_out(self) -> bool:
        """Its attempt has taken too long."""
        self.is_ready = True
        handler = self.started.handler
        assert handler is not None
        limit_s = handler.spec.timeout_s
        try:
            self._coroutine.throw(TimeoutError(f"{handler.name} was not done within {limit_s:g} s"))
        except StopIteration:
            return True
        return False

    def _astray(self, place: str, what: str) -> Violated:
        handler = self.started.handler
        assert handler is not None
        return Violated(f"{place}{handler.name} {what}", [waiting.INSTEAD])

    def close(self) -> None:
        """The process is gone."""
        self._coroutine.close()

    async def _run(self) -> None:
        """As ``Effects.run``: what the disk refuses is no failure of the handler."""
        try:
            await self._attempt()
        except Unavailable:
            self.node.world.give_back(self.node, self.n)

    async def _attempt(self) -> None:
        node, started = self.node, self.started
        handler = started.handler
        assert handler is not None
        steps = node.steps(started)
        self._outside = _Outside(self, steps)
        resource = node.world.resource(node.name)
        context = self._context = SimContext(
            started.envelope,
            started.held.attempts,
            started.step,
            None if resource is None else Watched(resource, self),
            self._outside,
        )
        context.effect = self
        try:
            fails = node.world.nature.before_handler(node, started.envelope)
            if fails is not None:
                raise fails
            message = decode_message(started.envelope, handler.message)
            value = await handler.spec.fn(context, message)
        except NotCommitted:
            raise
        except Exception as err:
            if waiting.is_lost(err):
                raise self._astray(line_of(err), "waits for an event loop") from err
            node.world.nature.noted(node, started.envelope, err)
            await steps.failed(err)
            return
        await steps.finished(value)

    async def act(self, name: str, fn: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A function of the resource is called: by ``once``, which has done the rest, or not."""
        if self.is_in_once:
            return await fn(*args, **options)
        self.call = (fn, key_among(self._context, args, options))
        return await self._outside.act(name, lambda: fn(*args, **options))


class _Outside:
    """The durable steps of an effect, whose call to the outside is the simulator's."""

    def __init__(self, effect: Effect, steps: Any) -> None:
        self._effect = effect
        self._steps = steps

    async def once(self, name: str, call: Callable[[], Awaitable[Any]], wanted: Any) -> Any:
        envelope = self._effect.started.envelope
        self._effect.node.does(f"begins {name!r} of {said(envelope)}", envelope)

        async def act() -> Any:
            self._effect.is_in_once = True
            try:
                value = await self.act(name, call if self._is_faked() else None, wanted)
            finally:
                self._effect.is_in_once = False
            self._effect.node.does(f"records {name!r} of {said(envelope)}", envelope)
            return value

        value = await self._steps.once(name, act, wanted)
        self._effect.node.world.oracles.recorded(self._effect.node, envelope, name)
        return value

    async def commit(self, fn: Callable[[Any], Any]) -> Any:
        return await self._steps.commit(fn)

    async def act(
        self, name: str, call: Callable[[], Awaitable[Any]] | None, wanted: Any = None
    ) -> Any:
        """Something happens outside, or not; without ``call`` its value is made up."""
        effect = self._effect
        world, envelope = effect.node.world, effect.started.envelope
        await pause()
        fate = world.nature.at_outside(effect, name)
        if fate == ways.FAILS_BEFORE:
            raise OutsideFailed(f"simulated: {name} failed before it acted")
        key = effect.call[1] if effect.call is not None else None
        value = world.nature.answer(effect, name)
        if value is UNSET and call is not None:
            value = await call()
        elif value is UNSET:
            value = made_up(wanted, f"{name}-{key or envelope.id}")
        world.acted(effect, name, key)
        if fate == ways.KILLED_ACTING:
            raise Killed
        if fate == ways.FAILS_AFTER:
            raise OutsideFailed(f"simulated: {name} acted, its answer was lost")
        if fate == ways.HANGS:
            effect.is_ready = False
        await pause()
        return value

    def _is_faked(self) -> bool:
        """Only what the plugin itself gave for simulations is really called."""
        fn = self._effect.call[0] if self._effect.call is not None else None
        resource = self._effect.node.world.resource(self._effect.node.name)
        if resource is None or isinstance(resource, Stub):
            return False
        owner = getattr(inspect.unwrap(fn), "__self__", None) if fn is not None else None
        return any(
            owner is part for part in (resource, *getattr(resource, "__dict__", {}).values())
        )


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Here others may come in between."""
    yield
