"""What an effect does outside: where it may fail, and by what the outside knows it again."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from outboxd import Command, Context, Participant
from outboxd.prove import report, session
from outboxd.prove.explore import Found
from outboxd.registry import Registry


class Send(Command[str], to="post", key="letter_id"):
    letter_id: str


class Stamps:
    """A client within a client."""

    async def buy(self, letter_id: str, *, idempotency_key: str | None = None) -> str:
        return f"stamp of {letter_id}"


class Office:
    """A client, as a lifespan would open it."""

    def __init__(self) -> None:
        self.stamps = Stamps()

    async def post(self, text: str, *, idempotency_key: str | None = None) -> str:
        return "posted"


@asynccontextmanager
async def opened() -> AsyncIterator[Office]:
    yield Office()


def proved(
    handler: Callable[[Context, Send], Any],
    fake: Callable[[], Any] | None = None,
    faults: int = 1,
) -> Found | None:
    """What is found where ``handler`` posts a letter."""

    async def send(ctx: Context, cmd: Send) -> str:
        return str(await handler(ctx, cmd))

    post = Participant("post", lifespan=opened)
    post.handle(send)
    post.example(Send(letter_id="l-1"))
    if fake is not None:
        post.fake(fake)
    settings = session.Settings(faults=faults, random_s=0.1, instances=1)
    return session.prove(Registry([post]), settings=settings).found


async def in_once_with_key(ctx: Context, cmd: Send) -> str:
    office: Office = ctx.resource
    return await ctx.once("post", office.post, cmd.letter_id, idempotency_key=ctx.idempotency_key)


async def beside_once_with_key(ctx: Context, cmd: Send) -> str:
    office: Office = ctx.resource
    return await office.post(cmd.letter_id, idempotency_key=ctx.idempotency_key)


async def beside_once_without_key(ctx: Context, cmd: Send) -> str:
    office: Office = ctx.resource
    return await office.post(cmd.letter_id)


async def with_the_key_in_the_text(ctx: Context, cmd: Send) -> str:
    office: Office = ctx.resource
    return await office.post(f"please, about {ctx.idempotency_key}")


async def by_a_client_within(ctx: Context, cmd: Send) -> str:
    office: Office = ctx.resource
    return await office.stamps.buy(cmd.letter_id)


def test_a_call_with_the_message_s_key_may_be_repeated_with_or_without_once() -> None:
    for handler in (in_once_with_key, beside_once_with_key, with_the_key_in_the_text):
        for fake in (None, Office):
            found = proved(handler, fake)
            assert found is None, "\n".join(report.violation(found))


def test_a_repeated_call_without_a_key_is_a_violation_unless_a_fake_knows_better() -> None:
    found = proved(beside_once_without_key)
    assert found is not None
    assert found.rule == "post repeats 'post' for one message without an idempotency key"
    assert len(found.plan) == 1
    assert proved(beside_once_without_key, Office) is None


class Counting(Stamps):
    """Stamps that say how many were bought."""

    def __init__(self) -> None:
        self.bought = 0

    async def buy(self, letter_id: str, *, idempotency_key: str | None = None) -> str:
        self.bought += 1
        return f"stamp {self.bought}"


class Strict(Office):
    """Says that one stamp is enough."""

    def __init__(self) -> None:
        self.stamps: Counting = Counting()

    def violations(self) -> Iterable[str]:
        if self.stamps.bought > 1:
            yield f"{self.stamps.bought} stamps on one letter"


class Unique(Strict):
    """Neither copied nor compared."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_what_a_client_within_a_client_does_is_seen_too() -> None:
    for fake in (Strict, Unique):
        found = proved(by_a_client_within, fake)
        assert found is not None
        assert found.rule == "post: the world outside is not as it should be"
        assert found.details == ["2 stamps on one letter"]
        assert len(found.plan) == 1


def test_a_fake_begins_anew_with_each_run() -> None:
    made: list[Strict] = []

    def fake() -> Strict:
        made.append(Strict())
        return made[-1]

    found = proved(in_once_with_key, fake, faults=1)
    assert found is None
    assert len(made) > 5
    assert not [one for one in made if one.stamps.bought]
