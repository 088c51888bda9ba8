"""Mistakes in plugins that ``simulated`` finds, and how it tells them; nothing ever hangs."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import time
import types
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from outboxd import Command, Context, Db, Event, Participant, Saga, Tx
from outboxd.testing import Simulation, followed, simulated

HERE = Path(__file__).name


class Work(Command[None], to="worker", key="name"):
    """What an effect does."""

    name: str


class Buy(Command[str], to="shop", key="name"):
    """What starts a saga."""

    name: str


class Note(Command[None], to="notes", key="name"):
    """What a saga asks for."""

    name: str
    text: str


def story_of(test: Callable[[Simulation], object], *participants: Participant) -> str:
    """What a test is told that fails."""
    with pytest.raises(AssertionError) as caught, simulated(*participants) as sim:
        test(sim)
    return str(caught.value)


def worker(act: Callable[[Context], Awaitable[Any]], **options: Any) -> Participant:
    """A participant whose effect does ``act``."""
    made = Participant("worker", **options)

    @made.handle
    async def work(ctx: Context, cmd: Work) -> None:
        await act(ctx)

    return made


@types.coroutine
def turn() -> Generator[None, None, None]:
    """What asyncio.sleep(0) awaits."""
    yield


async def sleeps(ctx: Context) -> None:
    await asyncio.Event().wait()


async def sleeps_with_anyio(ctx: Context) -> None:
    await anyio.Event().wait()


async def connects(ctx: Context) -> None:
    await anyio.connect_tcp("localhost", 9)


async def asks_redis(ctx: Context) -> None:
    await Redis(port=9).get("x")


async def blocks(ctx: Context) -> None:
    socket.create_connection(("127.0.0.1", 9), 1).close()


@pytest.mark.parametrize("act", [sleeps, sleeps_with_anyio, connects, asks_redis, blocks])
def test_an_effect_that_wants_the_real_world_is_told_its_line_and_what_to_do(
    act: Callable[[Context], Awaitable[Any]],
) -> None:
    said = story_of(lambda sim: sim.send(Work(name="1")), worker(act))
    first, hint, *_ = said.splitlines()
    line = act.__code__.co_firstlineno + 1
    assert re.match(rf".*{HERE}:{line}: worker.work (waits|touches)", first), first
    assert "register a fake with @participant.fake" in hint


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_same_where_the_test_itself_has_an_event_loop() -> None:
    said = story_of(lambda sim: sim.send(Work(name="1")), worker(sleeps))
    assert re.match(rf".*{HERE}:\d+: worker.work waits for Future", said), said


def test_an_effect_that_polls_for_ever_ends_with_an_error() -> None:
    async def polls(ctx: Context) -> None:
        while True:
            await turn()

    said = story_of(lambda sim: sim.send(Work(name="1")), worker(polls))
    assert said.startswith("no end after 30,000 steps")


class Client:
    """A client of something outside."""

    async def charge(self, name: str, *, idempotency_key: str) -> str:
        """Never called in a simulation."""
        raise AssertionError("the real one")


@asynccontextmanager
async def a_client() -> AsyncIterator[Client]:
    """The lifespan of a worker."""
    yield Client()


class FakeClient(Client):
    """Keeps what it was asked, and refuses one name."""

    def __init__(self) -> None:
        self.charged: list[tuple[str, str]] = []

    async def charge(self, name: str, *, idempotency_key: str) -> str:
        self.charged.append((name, idempotency_key))
        return f"receipt {len(self.charged)}"


def charging() -> tuple[Participant, list[str]]:
    """A worker that charges through its resource, and what it was answered."""
    made = Participant("worker", lifespan=a_client)
    receipts: list[str] = []

    @made.handle
    async def work(ctx: Context, cmd: Work) -> None:
        key = ctx.idempotency_key
        receipt = await ctx.once("charge", ctx.resource.charge, cmd.name, idempotency_key=key)
        await ctx.commit(lambda tx: receipts.append(receipt))

    return made, receipts


def test_a_resource_without_a_fake_returns_made_up_values() -> None:
    made, receipts = charging()
    with simulated(made) as sim:
        sim.send(Work(name="a"))
    assert receipts == ["charge-sent-1"]


def test_a_fake_is_made_anew_for_each_simulation_and_can_be_looked_at() -> None:
    made, receipts = charging()
    made.fake(FakeClient)
    for _ in range(2):
        with simulated(made) as sim:
            sim.crash_at("after acting", "worker")
            sim.send(Work(name="a"))
            sim.run()
            assert sim.resource("worker").charged == [("a", "sent-1"), ("a", "sent-1")]
    assert receipts == ["receipt 2", "receipt 2"]


def shop(ask: Callable[[Saga, Buy], Awaitable[Any]]) -> tuple[Participant, Participant]:
    """A saga that does ``ask``, and a participant that takes its notes."""
    made = Participant("shop")
    notes = Participant("notes", schema="CREATE TABLE note (text TEXT) STRICT")

    @made.saga
    async def buy(saga: Saga, order: Buy) -> str:
        await ask(saga, order)
        await saga.call(Note(name=order.name, text="done"))
        return "done"

    @notes.handle
    def note(tx: Tx, cmd: Note) -> None:
        tx.execute("INSERT INTO note VALUES (?)", (cmd.text,))

    return made, notes


async def random_note(saga: Saga, order: Buy) -> None:
    await saga.call(Note(name=order.name, text=str(random.random())))


async def timed_note(saga: Saga, order: Buy) -> None:
    await saga.call(Note(name=order.name, text=str(time.time_ns())))


async def unique_note(saga: Saga, order: Buy) -> None:
    await saga.call(Note(name=order.name, text=str(uuid.uuid4())))


@pytest.mark.parametrize("ask", [random_note, timed_note, unique_note])
def test_a_saga_that_asks_for_something_else_when_it_is_replayed_is_found(
    ask: Callable[[Saga, Buy], Awaitable[Any]],
) -> None:
    said = story_of(lambda sim: sim.send(Buy(name="1")), *shop(ask))
    first, *hints = said.splitlines()
    assert first.startswith("shop/buy/1 is not deterministic: step 1: the journal has call Note")
    line = ask.__code__.co_firstlineno + 1
    assert re.match(rf" *.*{HERE}:{line}: run again from its journal", hints[0]), hints[0]
    assert "saga.now() and saga.uuid() stay the same" in hints[1]


def test_without_replays_it_is_found_at_the_end() -> None:
    with (
        pytest.raises(AssertionError, match="shop/buy/1 is not deterministic"),
        simulated(*shop(random_note), replays=False) as sim,
    ):
        assert sim.send(Buy(name="1")).result == "done"


async def right_note(saga: Saga, order: Buy) -> None:
    await saga.call(Note(name=order.name, text=f"{saga.now()} {saga.uuid()}"))


def test_what_a_saga_may_ask_for_is_the_same_when_it_is_replayed() -> None:
    with simulated(*shop(right_note)) as sim:
        assert sim.send(Buy(name="1")).result == "done"
        assert len(sim.handled(Note)) == 2


class Approved(Event, source="boss", key="name"):
    """What a saga waits for."""

    name: str


def test_what_a_saga_receives_is_sent_to_it() -> None:
    made = Participant("shop")

    @made.saga(receives=(Approved,))
    async def buy(saga: Saga, order: Buy) -> str:
        await saga.receive(Approved, timeout="1h")
        return "approved"

    with simulated(made) as sim:
        order = sim.send(Buy(name="1"))
        assert order.state == "running"
        sim.send(Approved(name="2"))
        assert order.state == "running"
        sim.send(Approved(name="1"))
        assert order.result == "approved"


async def buggy(saga: Saga, order: Buy) -> None:
    raise KeyError("price")


async def sleepy(saga: Saga, order: Buy) -> None:
    await asyncio.Event().wait()


async def lately_buggy(saga: Saga, order: Buy) -> None:
    await saga.sleep("5s")
    raise KeyError("price")


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (buggy, "KeyError: 'price'"),
        (lately_buggy, "KeyError: 'price'"),
        (sleepy, "a saga runs without an event loop"),
    ],
)
def test_a_saga_whose_code_fails_is_told_at_once_with_its_line(
    ask: Callable[[Saga, Buy], Awaitable[Any]], error: str
) -> None:
    def test(sim: Simulation) -> None:
        saga = sim.send(Buy(name="1"))
        sim.advance("5s")
        assert saga.state == "never reached"

    said = story_of(test, *shop(ask))
    assert said.startswith("a saga of shop fails: ")
    assert error in said.splitlines()[0]
    assert HERE in said


def test_a_transaction_that_touches_the_world_is_told() -> None:
    made = Participant("worker")

    @made.handle
    def work(tx: Tx, cmd: Work) -> None:
        socket.create_connection(("127.0.0.1", 9), 1).close()

    said = story_of(lambda sim: sim.send(Work(name="1")), made)
    assert re.match(rf".*{HERE}:\d+: worker touches the world outside in a transaction", said), said


def counting() -> Participant:
    """A participant with an invariant that breaks with the second message."""
    made = Participant("worker", schema="CREATE TABLE done (name TEXT) STRICT")

    @made.handle
    def work(tx: Tx, cmd: Work) -> None:
        tx.execute("INSERT INTO done VALUES (?)", (cmd.name,))

    @made.invariant("only one is done")
    def one(db: Db) -> Iterable[str]:
        for (count,) in db.execute("SELECT count(*) FROM done HAVING count(*) > 1"):
            yield f"{count} are done"

    return made


def test_an_invariant_is_asked_after_each_commit() -> None:
    def test(sim: Simulation) -> None:
        sim.send(Work(name="a"))
        sim.send(Work(name="b"))

    said = story_of(test, counting())
    assert said.splitlines()[:2] == ["worker: only one is done", "    2 are done"]
    assert "worker  gets Work b from outside" in said


STEPS = [("payments takes AuthorizePayment 1", 1, "the process is killed before the commit")]


def test_a_schedule_that_was_found_is_followed_until_nothing_is_violated() -> None:
    start = ("PlaceOrder", {"order_id": "1", "email": "a@b", "sku": "mug", "quantity": 1})
    order = (start[0], {**start[1], "cents": 5, "zone": "DE"})
    followed(["plugins"], [order, order], STEPS)
