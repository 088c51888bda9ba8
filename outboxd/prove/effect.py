"""An effect under way in the simulator: it stops where others may come in between."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from msgspec import UNSET

from outboxd.batch import Started
from outboxd.effects import NotCommitted
from outboxd.message import decode_data
from outboxd.participant import Context
from outboxd.plugins import line_of

from . import waiting
from .fakes import Stub, made_up
from .guard import OutsideTouched, guarded
from .node import said
from .oracles import Violated
from .store import Killed

if TYPE_CHECKING:
    from .node import Node

P = ParamSpec("P")
T = TypeVar("T")

FAILS_BEFORE = "the outside fails before it acts"
FAILS_AFTER = "the outside acts, its answer is lost"
KILLED = "the process is killed after the outside acted"
HANGS = "the outside acts and does not answer in time"

WAYS = (FAILS_BEFORE, FAILS_AFTER, KILLED, HANGS)


class OutsideFailed(Exception):
    """What the world outside answers where the schedule says so."""


class SimContext(Context):
    """A Context whose calls to the outside are the simulator's."""

    effect: Effect

    async def once(
        self, name: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self.effect.call = (fn, kwargs.get("idempotency_key"))
        return await super().once(name, fn, *args, **kwargs)


class Effect:
    """One attempt of an async handler. ``is_ready``: whether it can go on."""

    def __init__(self, node: Node, started: Started) -> None:
        self.node = node
        self.started = started
        self.n = started.held.n
        self.is_ready = True
        self.phase = 0
        self.call: tuple[Any, Any] | None = None
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
        node, started = self.node, self.started
        handler = started.handler
        assert handler is not None
        steps = node.steps(started)
        outside = _Outside(self, steps)
        context = SimContext(
            started.envelope,
            started.held.attempts,
            started.step,
            node.world.resource(node.name),
            outside,
        )
        context.effect = self
        try:
            node.world.before_handler(node, started.envelope)
            message = decode_data(started.envelope.data, handler.message)
            value = await handler.spec.fn(context, message)
        except NotCommitted:
            node.world.give_back(node, self.n)
            return
        except Exception as err:
            if waiting.is_lost(err):
                raise self._astray(line_of(err), "waits for an event loop") from err
            await steps.failed(node.world.noted(node, err))
            return
        try:
            await steps.finished(value)
        except NotCommitted:
            node.world.give_back(node, self.n)


class _Outside:
    """The durable steps of an effect, whose call to the outside is the simulator's."""

    def __init__(self, effect: Effect, steps: Any) -> None:
        self._effect = effect
        self._steps = steps

    async def once(self, name: str, call: Callable[[], Awaitable[Any]], wanted: Any) -> Any:
        envelope = self._effect.started.envelope
        self._effect.node.does(f"begins {name!r} of {said(envelope)}", envelope)
        return await self._steps.once(name, lambda: self._act(name, call, wanted), wanted)

    async def commit(self, fn: Callable[[Any], Any]) -> Any:
        return await self._steps.commit(fn)

    async def _act(self, name: str, call: Callable[[], Awaitable[Any]], wanted: Any) -> Any:
        effect = self._effect
        world, envelope = effect.node.world, effect.started.envelope
        await pause()
        fate = world.at_outside(effect, name)
        if fate == FAILS_BEFORE:
            raise OutsideFailed(f"simulated: {name} failed before it acted")
        key = effect.call[1] if effect.call is not None else None
        made = f"{name}-{key or envelope.id}"
        value = world.answer(effect, name)
        if value is UNSET:
            value = await call() if self._is_faked() else made_up(wanted, made)
        world.acted(effect, name, key)
        if fate == KILLED:
            raise Killed
        if fate == FAILS_AFTER:
            raise OutsideFailed(f"simulated: {name} acted, its answer was lost")
        if fate == HANGS:
            effect.is_ready = False
        await pause()
        effect.node.does(f"records {name!r} of {said(envelope)}", envelope)
        return value

    def _is_faked(self) -> bool:
        """Only what the plugin itself gave for simulations is really called."""
        fn = self._effect.call[0] if self._effect.call is not None else None
        resource = self._effect.node.world.resource(self._effect.node.name)
        if resource is None or isinstance(resource, Stub):
            return False
        owner = getattr(fn, "__self__", None)
        return any(
            owner is part for part in (resource, *getattr(resource, "__dict__", {}).values())
        )


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Here others may come in between."""
    yield
