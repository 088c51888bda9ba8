"""What an async handler holds: facts of its message, and two durable steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import pytest

from outboxd.participant import Context
from outboxd.tx import Step, Tx
from tests.factories import envelope


class Recorded:
    """Effects that note what they were asked to do, and do it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    async def once(self, name: str, call: Callable[[], Awaitable[Any]], wanted: Any) -> Any:
        self.asked.append((name, wanted))
        return await call()

    async def commit(self, fn: Callable[[Tx], Any]) -> Any:
        return fn(cast(Tx, "the transaction"))


async def book(address: str, *, idempotency_key: str) -> int:
    return len(address + idempotency_key)


async def unannotated(address):  # type: ignore[no-untyped-def]
    return address


def record(tx: Tx, number: int, *, note: str) -> str:
    return f"{tx} {number} {note}"


def context(effects: Recorded, **attributes: Any) -> Context:
    return Context(envelope(**attributes), 2, None, "resource", effects)


@pytest.mark.anyio
async def test_a_call_of_the_world_is_named_and_typed_by_its_annotation() -> None:
    effects = Recorded()
    ctx = context(effects)
    assert await ctx.once("book", book, "a street", idempotency_key="k") == 9
    assert await ctx.once("other", unannotated, "x") == "x"
    assert effects.asked == [("book", int), ("other", Any)]


@pytest.mark.anyio
async def test_a_commit_runs_a_function_with_the_transaction_and_its_arguments() -> None:
    assert await context(Recorded()).commit(record, 7, note="n") == "the transaction 7 n"


def test_a_context_knows_its_message() -> None:
    ctx = context(Recorded(), idempotencykey="k")
    assert (ctx.message_id, ctx.key, ctx.attempt, ctx.resource) == ("m-1", "o-1", 2, "resource")
    assert ctx.idempotency_key == "k"
    assert context(Recorded()).idempotency_key == "m-1"


def test_an_undo_knows_its_step() -> None:
    step = Step("m-0", True, msgspec.Raw(b"1"))
    assert Context(envelope(), 1, step, None, Recorded()).step is step
