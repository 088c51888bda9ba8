"""Whatever a handler or a saga raises or says: it is that message's failure, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import Raw

from outboxd import Context, Event, Reject, Rejected, Retry, Saga, Tx
from outboxd.testing import Harness, wait_until
from tests.promises.cast import Act, Cast, Do, Go, envelope, hosting, letters, log

pytestmark = pytest.mark.anyio

ODD = "caf\udce9"
"""A file's name as Python has it where the bytes are no UTF-8; neither JSON nor SQLite takes it."""


class Mute(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("broken")


RAISED: list[Callable[[], BaseException]] = [
    lambda: ValueError(ODD),
    lambda: Reject(ODD),
    lambda: Reject(5),  # type: ignore[arg-type]  # what a plugin without types may do
    lambda: Retry(after=float("nan")),
    lambda: Retry(after="soon"),  # type: ignore[arg-type]  # the same
    Mute,
    lambda: SystemExit(3),
    lambda: asyncio.CancelledError("met elsewhere"),
]


class Note(Event, source="worker", key="id"):
    """What a saga may receive."""

    id: str


async def ends(harness: Harness, participant: str) -> bool:
    """Whether the bad message is no more: it was answered "no", or is a letter."""
    held = await harness.rows(participant, "SELECT 1 FROM outboxd_inbox")
    done = await harness.rows(participant, "SELECT 1 FROM outboxd_sender WHERE done > 0")
    return not held and bool(done)


@pytest.mark.parametrize("raised", RAISED)
async def test_a_transaction_that_raises_it_holds_up_no_other(
    cast: Cast, tmp_path: Path, raised: Callable[[], BaseException]
) -> None:
    def fail(tx: Tx, cmd: Do) -> None:
        if cmd.id == "bad":
            raise raised()

    cast.on_do = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Do(id="bad"))
        await harness.send(Do(id="good"))
        await wait_until(lambda: ends(harness, "worker"))
        assert await log(harness, "worker") == ["do a"]


@pytest.mark.parametrize("raised", RAISED[:-1])
async def test_an_effect_that_raises_it_holds_up_no_other(
    cast: Cast, tmp_path: Path, raised: Callable[[], BaseException]
) -> None:
    async def fail(ctx: Context, cmd: Act) -> None:
        if cmd.id == "bad":
            raise raised()

    cast.on_act = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Act(id="bad"))
        await harness.send(Act(id="good"))
        await wait_until(lambda: ends(harness, "courier"))
        assert await log(harness, "courier") == ["act x"]


async def fails(saga: Saga) -> None:
    saga.fail(ODD)


async def fails_with_an_object(saga: Saga) -> None:
    saga.fail({"code": 5})  # type: ignore[arg-type]  # what code without types may do


async def has_a_bug(saga: Saga) -> None:
    raise ValueError(ODD)


async def exits(saga: Saga) -> None:
    raise SystemExit(3)


async def waits_for_an_odd_key(saga: Saga) -> None:
    await saga.receive(Note, key=ODD, timeout="1h")


async def sends_an_odd_key(saga: Saga) -> None:
    await saga.call(Do(id=ODD))


async def sleeps_for_no_number(saga: Saga) -> None:
    await saga.sleep(float("nan"))


async def sleeps_for_ever(saga: Saga) -> None:
    await saga.sleep(float("inf"))


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (fails, "compensated"),
        (fails_with_an_object, "compensated"),
        (has_a_bug, "stuck"),
        (exits, "stuck"),
        (waits_for_an_odd_key, "stuck"),
        (sends_an_odd_key, "stuck"),
        (sleeps_for_no_number, "stuck"),
        (sleeps_for_ever, "stuck"),
    ],
)
async def test_a_saga_that_says_it_holds_up_no_other(
    cast: Cast, tmp_path: Path, body: Callable[[Saga], object], state: str
) -> None:
    @cast.desk.saga(receives=(Note,))
    async def trip(saga: Saga, go: Go) -> str:
        if go.id == "bad":
            await body(saga)  # type: ignore[misc]  # all of them are async
        return "x"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="bad"))
        assert await (await harness.start(Go(id="good"))).result() == "x"

        async def has_ended() -> bool:
            sql = "SELECT 1 FROM outboxd_saga WHERE key = 'bad' AND state = ?"
            return bool(await harness.rows("desk", sql, state))

        await wait_until(has_ended, f"it is {state}")


async def test_a_caller_hears_a_no_in_odd_letters(cast: Cast, tmp_path: Path) -> None:
    def refuse(tx: Tx, cmd: Do) -> None:
        raise Reject(ODD)

    cast.on_do = refuse

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        try:
            return await saga.call(Do(id=go.id))
        except Rejected as no:
            return no.reason

    async with hosting(*cast.participants, data=tmp_path) as harness:
        assert await (await harness.start(Go(id="1"))).result() == r"caf\udce9"


async def test_a_start_that_cannot_be_read_may_come_twice(cast: Cast, tmp_path: Path) -> None:
    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return "x"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        for _ in range(2):
            await harness.put("desk", envelope(Go(id="1"), "m1", data=Raw(b'{"id":5}')))
        assert await (await harness.start(Go(id="good"))).result() == "x"
        assert await letters(harness, "desk") == [("Go", "dead")]
