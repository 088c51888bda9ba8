"""What a saga must not do: foreign awaits, forgotten ones, steps in its last breath."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from outboxd.errors import Rejected, SagaMisuse
from outboxd.instance import Instance, Returned
from outboxd.saga import Saga, Step
from tests.factories import AT, Pay, PlaceOrder, Reserve, instance_of

ADVICE = "it may await only what its Saga offers: call, start, run, send, publish, sleep"


class Odd:
    """Awaitable by nobody's protocol."""

    def __await__(self) -> Generator[int, None, None]:
        yield 42


async def a_timeout(saga: Saga) -> None:
    async with asyncio.timeout(1):
        await saga.sleep(1)


async def an_anyio_timeout(saga: Saga) -> None:
    with anyio.fail_after(1):
        await saga.sleep(1)


async def a_task_group(saga: Saga) -> None:
    async with anyio.create_task_group():
        pass


async def a_future(saga: Saga) -> None:
    await asyncio.get_running_loop().create_future()


# Nobody waits here: each of these is refused before it begins.
FOREIGN: dict[str, Callable[[Saga], Any]] = {
    "asyncio.sleep(0)": lambda saga: asyncio.tasks.sleep(0),
    "asyncio.sleep(1)": lambda saga: asyncio.tasks.sleep(1),
    "asyncio.timeout": a_timeout,
    "asyncio.to_thread": lambda saga: asyncio.to_thread(len, ""),
    "asyncio.gather": lambda saga: asyncio.gather(saga.sleep(1), saga.sleep(2)),
    "asyncio.Event": lambda saga: asyncio.Event().wait(),
    "asyncio future": a_future,
    "anyio checkpoint": lambda saga: anyio.lowlevel.checkpoint(),
    "anyio.sleep_until": lambda saga: anyio.sleep_until(1),
    "anyio.fail_after": an_anyio_timeout,
    "anyio task group": a_task_group,
    "anyio thread": lambda saga: anyio.to_thread.run_sync(len, ""),
    "an awaitable of a stranger": lambda saga: Odd(),
}


def in_the_databases_thread(work: Callable[[], Any]) -> Any:
    """As in production: a worker thread, where no event loop runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def refusal_of(code: Callable[[Saga, PlaceOrder], Any]) -> str:
    instance = instance_of(code)
    with pytest.raises(SagaMisuse) as refused:
        in_the_databases_thread(lambda: instance.start(AT))
    instance.drop()
    return str(refused.value)


@pytest.mark.filterwarnings("ignore:coroutine 'ensure_future:RuntimeWarning")
@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_await_fails_at_once_and_says_what_to_do_instead(what: str) -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await FOREIGN[what](saga)

    assert ADVICE in refusal_of(code)
    gc.collect()  # asyncio's own wrapper warns here, and not in whatever test comes next


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["asyncio.sleep(0)", "asyncio.sleep(1)", "asyncio future"])
async def test_a_foreign_await_fails_under_a_running_loop_too(what: str) -> None:
    """The simulator and the test harness drive sagas on the loop's own thread."""

    async def code(saga: Saga, order: PlaceOrder) -> None:
        await FOREIGN[what](saga)

    instance = instance_of(code)
    with pytest.raises(SagaMisuse, match="it may await only what its Saga offers"):
        instance.start(AT)
    instance.drop()


def test_a_foreign_await_names_the_line_that_does_it() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await asyncio.tasks.sleep(1)

    with pytest.raises(SagaMisuse, match=r"test_saga_misuse\.py:\d+: a saga runs without"):
        in_the_databases_thread(lambda: instance_of(code).start(AT))


@pytest.mark.parametrize("path", ["/srv/outboxd/plugins/orders.py", "/srv/asyncio_shop/orders.py"])
def test_a_foreign_await_names_the_line_wherever_the_plugin_lies(path: str) -> None:
    names: dict[str, Any] = {"asyncio": asyncio}
    source = "async def code(saga, order):\n    await asyncio.sleep(1)\n"
    exec(compile(source, path, "exec"), names)
    with pytest.raises(SagaMisuse, match=f"{path}:2: a saga runs without"):
        in_the_databases_thread(lambda: instance_of(names["code"]).start(AT))


def test_a_foreign_yield_cannot_be_swallowed() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        with suppress(Exception):
            await asyncio.tasks.sleep(0)
        await saga.sleep(1)

    instance = instance_of(code)
    with pytest.raises(SagaMisuse, match="the saga awaited None"):
        instance.start(AT)
    assert instance.waiting is None
    instance.drop()


def test_a_swallowed_end_of_a_step_is_the_codes_own_decision() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> str:
        with suppress(Exception):
            await saga.call(Pay())
        await saga.sleep(1)
        return "went on"

    instance = instance_of(code)
    instance.start(AT)
    assert isinstance(instance.throw(AT, Rejected("no"), may_have_run=False), Step)
    assert instance.resume(AT, None) == Returned("went on")


@pytest.mark.parametrize(
    ("create", "shown"),
    [
        (lambda saga: saga.call(Pay()), "saga.call(Pay)"),
        (lambda saga: saga.run(print, "x"), "saga.run(print)"),
        (lambda saga: saga.send(Reserve()), "saga.send(Reserve)"),
        (lambda saga: saga.sleep("5m"), "saga.sleep(300s)"),
    ],
)
def test_a_forgotten_await_is_told_with_the_step(create: Callable[[Saga], Any], shown: str) -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.sleep(1)
        create(saga)

    instance = instance_of(code)
    instance.start(AT)
    with pytest.raises(SagaMisuse) as refused:
        instance.resume(AT, None)
    assert str(refused.value) == f"{shown} was created but never awaited: write `await` before it"


def test_a_step_may_be_awaited_later_than_it_was_made() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        later = saga.call(Pay())
        await saga.call(Reserve())
        await later

    instance = instance_of(code)
    first, second = instance.start(AT), instance.resume(AT, None)
    assert isinstance(first, Step)
    assert isinstance(second, Step)
    assert [(first.pos, first.name), (second.pos, second.name)] == [(1, "Reserve"), (2, "Pay")]
    assert instance.resume(AT, None) == Returned(None)


def test_one_step_is_awaited_once() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        step = saga.sleep(1)
        await step
        await step

    instance = instance_of(code)
    instance.start(AT)
    with pytest.raises(SagaMisuse, match="one step was awaited twice"):
        instance.resume(AT, None)


# Dropped.


def test_a_dropped_saga_asks_for_nothing_more() -> None:
    reached: list[str] = []

    async def code(saga: Saga, order: PlaceOrder) -> None:
        try:
            await saga.call(Pay())
        finally:
            reached.append("finally")
            await saga.call(Reserve())
            reached.append("after")

    instance = instance_of(code)
    instance.start(AT)
    instance.drop()
    assert reached == ["finally"]


async def foreign_finally(saga: Saga, order: PlaceOrder) -> None:
    try:
        await saga.sleep(1)
    finally:
        await asyncio.tasks.sleep(0)


async def failing_finally(saga: Saga, order: PlaceOrder) -> None:
    try:
        await saga.sleep(1)
    finally:
        raise KeyError("in finally")


async def stubborn(saga: Saga, order: PlaceOrder) -> None:
    for _ in range(3):
        with suppress(BaseException):
            await saga.sleep(1)
    await saga.sleep(2)


async def catching(saga: Saga, order: PlaceOrder) -> str:
    with suppress(BaseException):
        await saga.sleep(1)
    return "calm"


async def managed(saga: Saga, order: PlaceOrder) -> None:
    class Manager:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *error: object) -> None:
            await saga.sleep(1)

    async with Manager():
        await saga.sleep(1)


@pytest.mark.parametrize("code", [foreign_finally, failing_finally, stubborn, catching, managed])
def test_dropping_a_saga_is_quiet_whatever_its_code_does(code: Any) -> None:
    instance = instance_of(code)
    instance.start(AT)
    instance.drop()
    instance.drop()
    del instance
    gc.collect()


@pytest.mark.parametrize("moves", [0, 2])
def test_a_saga_that_was_never_started_or_has_ended_can_be_dropped(moves: int) -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.sleep(1)

    instance: Instance = instance_of(code)
    for move in range(moves):
        _ = instance.resume(AT, None) if move else instance.start(AT)
    instance.drop()
    gc.collect()
