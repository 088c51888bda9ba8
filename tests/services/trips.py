"""Sagas that several files play, and what a person does to them."""

from __future__ import annotations

from typing import Any

from outboxd import (
    Saga,
)
from outboxd.message import in_stream
from outboxd.testing import Harness
from tests.promises.cast import (
    Act,
    Cast,
    Do,
    Go,
    Unact,
    Undo,
)

WORKER = in_stream("worker")


def two_steps(cast: Cast, *, fails: bool = False) -> None:
    """A saga of the worker's steps a and b, each with its undo; afterwards it may fail."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        first = await saga.call(Do(id=go.id, step="a"), undo=Undo(id=go.id, step="a"))
        second = await saga.call(Do(id=go.id, step="b"), undo=Undo(id=go.id, step="b"))
        if fails:
            saga.fail("no more")
        return f"{first}, {second}"


def one_effect(cast: Cast, *, fails: bool = False) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        said = await saga.call(Act(id=go.id), undo=Unact(id=go.id))
        if fails:
            saga.fail("no more")
        return said


def both_at_once(cast: Cast) -> None:
    """The worker's step and the courier's, side by side."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        did, acted = await saga.all(
            saga.call(Do(id=go.id), undo=Undo(id=go.id)),
            saga.call(Act(id=go.id), undo=Unact(id=go.id)),
        )
        return f"{did}, {acted}"


async def skip(harness: Harness, saga_id: str, value: Any = None, **args: Any) -> str:
    return await harness.request("saga.skip", "desk", saga_id, {"value": value, **args})


async def resolve(harness: Harness, saga_id: str, state: str, result: Any = None) -> str:
    args = {"state": state, "result": result}
    return await harness.request("saga.resolve", "desk", saga_id, args)


async def journal(harness: Harness, saga_id: str) -> list[str]:
    sql = "SELECT kind FROM outboxd_journal WHERE saga = ? ORDER BY n"
    return await harness.column("desk", sql, saga_id)
