"""Two releases on one store: what the first one left in flight, the second one finishes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outboxd import Command, Participant, Policy, Saga, Tx
from outboxd.memory_stream import MemoryStream
from outboxd.testing import FakeClock, FaultyStream, Harness, wait_until
from tests.promises.cast import LOG, hosting, letters, log, write

pytestmark = pytest.mark.anyio

BRIEF = Policy(attempts=1)


def upcast(data: dict[str, Any], version: int) -> dict[str, Any]:
    data["cents"] = data.pop("euros") * 100
    return data


class Order(Command[None], to="desk", key="id"):
    """Of both releases."""

    id: str


class Pay(Command[None], to="till", key="id"):
    """As the first release has it."""

    id: str
    euros: int


class Charge(Command[None], to="till", key="id", version=2, upcast=upcast, aliases=("Pay",)):
    """As the second release has it: renamed, of another unit, with one more field."""

    id: str
    cents: int
    note: str = ""


class Pack(Command[None], to="till", key="id"):
    """As the first release has it."""

    id: str


class Wrap(Command[None], to="till", key="id", aliases=("Pack",)):
    """As the second release has it: renamed, with one more field."""

    id: str
    paper: str | None = None


def first() -> list[Participant]:
    desk, till = Participant("desk"), Participant("till", schema=LOG)

    @desk.saga
    async def fulfil(saga: Saga, order: Order) -> None:
        await saga.send(Pack(id=order.id))
        await saga.call(Pay(id=order.id, euros=3))

    @till.handle
    def pack(tx: Tx, cmd: Pack) -> None:
        write(tx, cmd.id, "packed")

    @till.handle(retry=BRIEF)
    def pay(tx: Tx, cmd: Pay) -> None:
        raise RuntimeError("the first release cannot")

    return [desk, till]


def second() -> list[Participant]:
    desk, till = Participant("desk"), Participant("till", schema=LOG)

    @desk.saga
    async def fulfil(saga: Saga, order: Order) -> None:
        await saga.send(Wrap(id=order.id))
        await saga.call(Charge(id=order.id, cents=300))
        await saga.call(Charge(id=order.id, cents=1, note="tip"))

    @till.handle
    def wrap(tx: Tx, cmd: Wrap) -> None:
        write(tx, cmd.id, f"wrapped {cmd.paper}")

    @till.handle(retry=BRIEF)
    def charge(tx: Tx, cmd: Charge) -> None:
        write(tx, cmd.id, f"{cmd.cents} {cmd.note}")

    return [desk, till]


async def has_letter(harness: Harness) -> None:
    async def is_there() -> bool:
        return bool(await letters(harness, "till"))

    await wait_until(is_there, "a letter")


async def test_a_letter_and_a_saga_of_the_first_release_end_in_the_second(tmp_path: Path) -> None:
    """The journal's steps have the old names, the letter the old data: all of it still fits."""
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(*first(), data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.send(Order(id="7"))
        await has_letter(harness)
    async with hosting(*second(), data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.replay("till", 1)
        await harness.until_saga("desk/fulfil/7", "completed")
        assert await log(harness, "till") == ["packed", "300 ", "1 tip"]


async def test_what_waits_in_the_outbox_is_taken_by_the_second_release(tmp_path: Path) -> None:
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    desk = first()[0]
    async with hosting(desk, data=tmp_path, clock=clock, stream=stream, drain_s=0.1) as harness:
        await harness.send(Order(id="7"))
        await harness.until_saga("desk/fulfil/7", "running")
    async with hosting(*second(), data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.until_saga("desk/fulfil/7", "completed")
        assert await log(harness, "till") == ["wrapped None", "300 ", "1 tip"]


async def test_the_version_travels_in_the_envelope(tmp_path: Path) -> None:
    clock = FakeClock()
    stream = FaultyStream(MemoryStream(clock))
    async with hosting(second()[0], data=tmp_path, clock=clock, stream=stream) as harness:
        await harness.send(Order(id="7"))
        await harness.until_saga("desk/fulfil/7", "running")
        bodies = await harness.column("desk", "SELECT body FROM outboxd_outbox ORDER BY seq")
        assert [b'"schemaversion":2' in body for body in bodies] == [False, True]
        await harness.cancel("desk/fulfil/7")
