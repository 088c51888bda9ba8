"""A parent at the office, its child at the desk, and whom they work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from outboxd import (
    Command,
    Participant,
    Saga,
    Tx,
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
    hosting,
    write,
)

DESK = in_stream("desk")
CHILD = "desk/trip/1"
PARENT = "office/plan/1"


class Plan(Command[str], to="office", key="id"):
    """Starts the parent."""

    id: str


class Ungo(Command[None], to="desk", key="id"):
    """Undoes what a finished child has done."""

    id: str


Body = Callable[[Saga, Plan], Awaitable[str]]


class Family:
    """A parent at the office, its child at the desk, and whom they work with."""

    def __init__(self) -> None:
        self.cast = Cast()
        self.known: list[tuple[bool, bytes | None]] = []
        self.office = Participant("office")
        family = self

        @self.cast.desk.handle
        def ungo(tx: Tx, cmd: Ungo) -> None:
            assert tx.step is not None
            result = tx.step.result
            family.known.append((tx.step.known, None if result is None else bytes(result)))
            write(tx, cmd.id, "ungone")

    def parent(self, body: Body) -> None:
        @self.office.saga
        async def plan(saga: Saga, cmd: Plan) -> str:
            return await body(saga, cmd)

    def child(self, *, forward: bool = False) -> None:
        """A step of the worker, then one of the courier."""

        @self.cast.desk.saga
        async def trip(saga: Saga, go: Go) -> str:
            await saga.call(Do(id=go.id), undo=Undo(id=go.id))
            if forward:
                saga.point_of_no_return()
                return await saga.call(Act(id=go.id))
            return await saga.call(Act(id=go.id), undo=Unact(id=go.id))

    def host(self, data: Path):  # type: ignore[no-untyped-def]
        return hosting(self.office, *self.cast.participants, data=data)


async def and_fails(saga: Saga, cmd: Plan) -> str:
    await saga.call(Go(id=cmd.id), undo=Ungo(id=cmd.id))
    saga.fail("no more")


async def with_undo(saga: Saga, cmd: Plan) -> str:
    return await saga.call(Go(id=cmd.id), undo=Ungo(id=cmd.id))


async def without_undo(saga: Saga, cmd: Plan) -> str:
    return await saga.call(Go(id=cmd.id))


async def state(harness: Harness, saga_id: str) -> str:
    return (await harness.saga(saga_id)).state
