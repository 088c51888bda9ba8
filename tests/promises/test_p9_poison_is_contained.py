"""P9: a bad message never blocks another key, never loops hot, never disappears."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from outboxd import (
    Command,
    ConfigError,
    MessageDeadLettered,
    Participant,
    Policy,
    Refused,
    Retry,
    Saga,
    Tx,
    Unavailable,
    Unrecoverable,
)
from outboxd.message import MAX_ENVELOPE_BYTES
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Act,
    Cast,
    Do,
    Done,
    Go,
    envelope,
    hosting,
    letters,
    log,
    sent_to,
    write,
)

pytestmark = pytest.mark.anyio


class Count(Command[None], to="counter", key="id"):
    """Has a field whose type matters."""

    id: str
    amount: int


class Flood(Command[None], to="flood", key="id"):
    """Makes its handler send something of that size, then something small."""

    id: str
    size: int


def counter() -> Participant:
    """Counts; an amount below zero is a bug."""
    counter = Participant("counter", schema="CREATE TABLE sum (amount INTEGER NOT NULL) STRICT;")

    @counter.handle(retry=Policy(attempts=1))
    def count(tx: Tx, cmd: Count) -> None:
        tx.execute("INSERT INTO sum VALUES (?)", (cmd.amount,))
        if cmd.amount < 0:
            raise ValueError("below zero")

    return counter


async def fields(harness: Harness, participant: str, *names: str) -> list[tuple[Any, ...]]:
    """These columns of each dead letter."""
    return await harness.rows(
        participant, f"SELECT {', '.join(names)} FROM outboxd_dead ORDER BY n"
    )


async def until_letters(harness: Harness, participant: str, count: int) -> None:
    async def are_there() -> bool:
        return len(await letters(harness, participant)) == count

    await wait_until(are_there, f"{participant} has {count} letters")


async def test_bad_bytes_become_letters_and_the_next_message_is_handled(tmp_path: Path) -> None:
    good = envelope(Count(id="1", amount=7), "m-1")
    wrong = json.loads(good) | {"id": "m-2", "data": {"id": "1", "amount": "seven"}}
    unknown = json.loads(good) | {"id": "m-3", "type": "Coumt"}
    old = json.loads(good) | {"id": "m-4", "specversion": "0.3"}
    async with hosting(counter(), data=tmp_path) as harness:
        for body in (
            b"\xff\xfe garbage",
            b"",
            b"[" * 100_000,
            b'{"specversion": "1.0"}',
            json.dumps(wrong).encode(),
            json.dumps(unknown).encode(),
            json.dumps(old).encode(),
            good,
        ):
            await harness.put("counter", body)
        await until_letters(harness, "counter", 7)
        await harness.until_idle()
        assert await harness.column("counter", "SELECT amount FROM sum") == [7]
        found = await fields(harness, "counter", "type", "error", "attempts")
        assert [kind for kind, _, _ in found] == [
            *["(undecodable)"] * 4,
            "Count",
            "Coumt",
            "(undecodable)",
        ]
        assert found[4][1] == "Count: Expected `int`, got `str` - at `$.amount`"
        assert found[5][1] == "counter has no handler for Coumt; did you mean Count?"
        assert {attempts for _, _, attempts in found[4:6]} == {1}


async def test_bad_bytes_that_come_again_are_the_same_letter(tmp_path: Path) -> None:
    async with hosting(counter(), data=tmp_path) as harness:
        for _ in range(3):
            await harness.put("counter", b"garbage")
        await harness.put("counter", envelope(Count(id="1", amount=7), "m-1"))
        await wait_until(lambda: harness.column("counter", "SELECT amount FROM sum"))
        assert await fields(harness, "counter", "body") == [(b"garbage",)]


async def test_a_stranger_s_body_of_any_size_is_kept_whole(tmp_path: Path) -> None:
    body = b"x" * (MAX_ENVELOPE_BYTES + 1)
    async with hosting(counter(), data=tmp_path) as harness:
        await harness.put("counter", body)
        await until_letters(harness, "counter", 1)
        assert await fields(harness, "counter", "body") == [(body,)]


async def test_what_is_too_big_is_its_sender_s_failure(tmp_path: Path) -> None:
    """A numbered message that no receiver can take would block all that follow it."""
    flood = Participant("flood")

    @flood.handle(retry=Policy(attempts=1))
    def handle(tx: Tx, cmd: Flood) -> None:
        tx.send(Do(id="big", step="x" * cmd.size))
        tx.send(Do(id="small", step="small"))

    cast = Cast()
    async with hosting(flood, cast.worker, data=tmp_path) as harness:
        await harness.send(Flood(id="1", size=MAX_ENVELOPE_BYTES))
        await harness.send(Flood(id="2", size=MAX_ENVELOPE_BYTES // 2))
        await wait_until(lambda: log(harness, "worker"))
        await harness.until_idle()
        assert [what[:8] for what in await log(harness, "worker")] == ["do xxxxx", "do small"]
        [(error,)] = await fields(harness, "flood", "error")
        assert f"the limit is {MAX_ENVELOPE_BYTES:,}" in error


async def test_a_foreign_message_is_taken_once(tmp_path: Path) -> None:
    async with hosting(counter(), data=tmp_path) as harness:
        for body in (
            envelope(Count(id="1", amount=1), "m-1"),
            envelope(Count(id="1", amount=1), "m-1"),
            envelope(Count(id="1", amount=1), "m-1", source="another"),
            envelope(Count(id="1", amount=2), "m-1"),
            envelope(Count(id="1", amount=2), "m-1"),
            envelope(Count(id="1", amount=3), "m-2"),
        ):
            await harness.put("counter", body)
        await wait_until(lambda: is_sum(harness, 5))
        assert await harness.column("counter", "SELECT amount FROM sum") == [1, 1, 3]
        assert await fields(harness, "counter", "id", "error") == [
            ("stranger/m-1", "stranger sent m-1 before, with other content")
        ]


async def is_sum(harness: Harness, expected: int) -> bool:
    return await harness.column("counter", "SELECT sum(amount) FROM sum") == [expected]


async def test_a_handler_s_bug_is_retried_then_buried_with_all_of_its_attempts(
    cast: Cast, tmp_path: Path
) -> None:
    cast.break_step("bad")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Do(id="1", step="bad"), "m-1")
        await harness.send(Do(id="1", step="next"), "m-2")
        await harness.send(Do(id="2", step="other"), "m-3")
        await until_letters(harness, "worker", 1)
        await harness.until_idle()
        assert sorted(await log(harness, "worker")) == ["do next", "do other"]
        sql = "SELECT id, n, outcome, error FROM outboxd_attempt ORDER BY n"
        assert await harness.rows("worker", sql) == [
            ("m-1", 1, "again in 0.00 s", "RuntimeError: step bad is broken"),
            ("m-1", 2, "again in 0.00 s", "RuntimeError: step bad is broken"),
            ("m-1", 3, "gave up", "RuntimeError: step bad is broken"),
        ]
        [(handler, attempts, key, trace)] = await fields(
            harness, "worker", "handler", "attempts", "key", "traceback"
        )
        assert (handler, attempts, key) == ("worker.do", 3, "1")
        assert "cast.py" in trace
        cast.mend()
        await harness.replay("worker", 1)
        await harness.until_idle()
        assert "do bad" in await log(harness, "worker")


async def test_another_key_never_waits_for_one_that_fails(cast: Cast, tmp_path: Path) -> None:
    def hard(_: Tx, cmd: Do) -> None:
        if cmd.id == "hard":
            raise Retry("the bank is closed", after=3600)

    cast.on_do = hard
    async with hosting(*cast.participants, data=tmp_path) as harness:
        easy = [Do(id=f"easy {key}") for key in range(20)]
        await harness.send_all(Do(id="hard", step="1"), Do(id="hard", step="2"), *easy)
        await wait_until(lambda: is_logged(harness, 20))
        cast.mend()
        assert await log(harness, "worker", "hard") == []
        harness.advance(3599)
        assert await harness.column("worker", "SELECT count(*) FROM outboxd_inbox") == [2]
        harness.advance(2)
        await wait_until(lambda: is_logged(harness, 22))
        assert await log(harness, "worker", "hard") == ["do 1", "do 2"]


async def is_logged(harness: Harness, count: int) -> bool:
    return len(await log(harness, "worker")) == count


async def test_a_bug_in_one_saga_s_callee_holds_up_no_other_saga(
    cast: Cast, tmp_path: Path
) -> None:
    """The whole story: retried by its policy, dead, its saga stuck; the fix and a replay end it."""

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id, step=f"for {go.id}"))

    cast.break_step("for 3")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        handles = [await harness.start(Go(id=str(n))) for n in range(8)]
        for n in (0, 1, 2, 4, 5, 6, 7):
            assert await handles[n].result() == f"do for {n}"
        await harness.until_saga(handles[3].id, "stuck: letter")
        await harness.until_idle()
        attempts = "SELECT count(*) FROM outboxd_attempt"
        assert await harness.column("worker", attempts) == [3]
        cast.mend()
        await harness.replay("worker", 1)
        assert await handles[3].result() == "do for 3"


async def test_a_dead_letter_holds_its_key_where_the_handler_says_so(tmp_path: Path) -> None:
    strict = Participant("counter", schema="CREATE TABLE sum (amount INTEGER NOT NULL) STRICT;")
    is_broken = [True]

    @strict.handle(retry=Policy(attempts=2, base_s=0.01), hold_key=True)
    def count(tx: Tx, cmd: Count) -> None:
        if cmd.amount == 2 and is_broken[0]:
            raise ValueError("two")
        tx.execute("INSERT INTO sum VALUES (?)", (cmd.amount,))

    async with hosting(strict, data=tmp_path) as harness:
        counts = [Count(id="k", amount=amount) for amount in (1, 2, 3)]
        await harness.send_all(*counts, Count(id="other", amount=10))
        await until_letters(harness, "counter", 1)
        await wait_until(lambda: is_sum(harness, 11))
        await harness.until_idle()
        is_broken[0] = False
        await harness.replay("counter", 1)
        await wait_until(lambda: is_sum(harness, 16))
        amounts = await harness.column("counter", "SELECT amount FROM sum WHERE amount < 10")
        assert amounts == [1, 2, 3]


async def test_a_discard_releases_the_key(tmp_path: Path) -> None:
    strict = Participant("counter", schema="CREATE TABLE sum (amount INTEGER NOT NULL) STRICT;")

    @strict.handle(hold_key=True)
    def count(tx: Tx, cmd: Count) -> None:
        if cmd.amount == 2:
            raise Unrecoverable("two")
        tx.execute("INSERT INTO sum VALUES (?)", (cmd.amount,))

    async with hosting(strict, data=tmp_path) as harness:
        await harness.send_all(*[Count(id="k", amount=amount) for amount in (1, 2, 3)])
        await until_letters(harness, "counter", 1)
        await harness.discard("counter", 1, reason="a duplicate")
        await wait_until(lambda: is_sum(harness, 4))
        assert await fields(harness, "counter", "state", "reason") == [("discarded", "a duplicate")]


async def test_an_alert_is_a_handler(tmp_path: Path) -> None:
    """It hears of each letter of every participant, and never of a letter about a letter."""
    alerts = Participant("alerts", schema="CREATE TABLE alert (said TEXT NOT NULL) STRICT;")

    @alerts.handle(retry=Policy(attempts=1))
    def alert(tx: Tx, event: MessageDeadLettered) -> None:
        if event.message_key == "unlucky":
            raise RuntimeError("the pager is broken")
        tx.execute(
            "INSERT INTO alert VALUES (?)",
            (f"{event.participant}/{event.letter} {event.message_type}: {event.error}",),
        )

    async with hosting(counter(), alerts, data=tmp_path) as harness:
        await harness.send_all(Count(id="k", amount=-1), Count(id="unlucky", amount=-1))
        await harness.put("counter", b"garbage")
        await until_letters(harness, "alerts", 1)
        await wait_until(lambda: have_alerts(harness, 2))
        await harness.until_idle()
        said = sorted(await harness.column("alerts", "SELECT said FROM alert"))
        assert said[0] == "counter/d-1 Count: ValueError: below zero"
        assert said[1].startswith("counter/d-3 (undecodable): Undecodable: not a CloudEvents")
        assert await letters(harness, "alerts") == [("MessageDeadLettered", "dead")]


async def have_alerts(harness: Harness, count: int) -> bool:
    return len(await harness.column("alerts", "SELECT said FROM alert")) == count


async def test_letters_make_no_letters_where_nobody_listens(cast: Cast, tmp_path: Path) -> None:
    """A subscriber of other events of that publisher has nothing to do with them."""
    listener = Participant("listener", schema="CREATE TABLE log (what TEXT) STRICT;")

    @listener.handle
    def on_done(tx: Tx, event: Done) -> None:
        tx.execute("INSERT INTO log VALUES (?)", (event.step,))

    cast.break_step("bad")
    async with hosting(cast.worker, listener, data=tmp_path) as harness:
        await harness.send_all(Do(id="1", step="bad"), Do(id="1", step="good"))
        await wait_until(lambda: harness.column("listener", "SELECT what FROM log"))
        await harness.until_idle()
        assert await letters(harness, "listener") == []


async def test_a_constraint_that_is_checked_at_the_commit_convicts_only_its_message(
    tmp_path: Path,
) -> None:
    """Or its schema is refused: it must not fail the commit of a whole batch, again and again."""
    schema = """
        CREATE TABLE parent (id INTEGER PRIMARY KEY) STRICT;
        CREATE TABLE sum (
            amount INTEGER NOT NULL REFERENCES parent DEFERRABLE INITIALLY DEFERRED
        ) STRICT;
        INSERT INTO parent VALUES (1), (3);
    """
    late = Participant("counter", schema=schema)

    @late.handle(retry=Policy(attempts=2, base_s=0.01))
    def count(tx: Tx, cmd: Count) -> None:
        tx.execute("INSERT INTO sum VALUES (?)", (cmd.amount,))

    with contextlib.suppress(ConfigError):
        async with hosting(late, data=tmp_path) as harness:
            await harness.send_all(*[Count(id=str(n), amount=n) for n in (1, 2, 3)])
            await until_letters(harness, "counter", 1)
            await wait_until(lambda: is_sum(harness, 4))


@pytest.mark.parametrize(
    "more",
    [
        "CREATE TABLE once (amount INTEGER UNIQUE ON CONFLICT ROLLBACK) STRICT;",
        "CREATE TRIGGER no BEFORE INSERT ON sum BEGIN SELECT RAISE(ROLLBACK, 'no'); END;",
    ],
)
async def test_a_schema_that_would_end_the_transaction_is_refused(
    more: str, tmp_path: Path
) -> None:
    rude = Participant("counter", schema=f"CREATE TABLE sum (amount INTEGER) STRICT; {more}")
    with pytest.raises(ConfigError, match="ROLLBACK"):
        async with hosting(rude, data=tmp_path):
            pass


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "ROLLBACK",
        " begin",
        "INSERT OR ROLLBACK INTO log VALUES (1, '1', 'x')",
        "/* x */ COMMIT",
        "-- \nEND",
    ],
)
async def test_a_handler_cannot_end_the_transaction_by_hand(
    statement: str, cast: Cast, tmp_path: Path
) -> None:
    def end(tx: Tx, cmd: Do) -> None:
        if cmd.step == "rude":
            write(tx, cmd.id, "half")
            tx.execute(statement)

    cast.on_do = end
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send_all(Do(id="1", step="rude"), Do(id="2", step="good"))
        await until_letters(harness, "worker", 1)
        await harness.until_idle()
        assert await log(harness, "worker") == ["do good"]


@pytest.mark.parametrize(
    "error",
    [
        RecursionError("deep"),
        MemoryError(),
        ExceptionGroup("two", [ValueError("a"), ValueError("b")]),
        Unavailable("the courier is down"),
        TimeoutError(),
        asyncio.CancelledError(),
        StopAsyncIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_an_effect_raises_is_counted_and_comes_to_an_end(
    error: BaseException, cast: Cast, tmp_path: Path
) -> None:
    tries: list[int] = []

    async def fail(ctx: Any, cmd: Act) -> None:
        if cmd.step == "bad":
            tries.append(ctx.attempt)
            raise error

    cast.on_act = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send_all(Act(id="1", step="bad"), Act(id="2", step="good"))
        await until_letters(harness, "courier", 1)
        await harness.until_idle()
        assert tries == [1, 2, 3]
        assert await log(harness, "courier") == ["act good"]


@pytest.mark.parametrize(
    "error",
    [
        RecursionError("deep"),
        MemoryError(),
        ExceptionGroup("two", [ValueError("a")]),
        Unavailable("no"),
        StopIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_transaction_raises_is_counted_and_comes_to_an_end(
    error: Exception, cast: Cast, tmp_path: Path
) -> None:
    tries: list[int] = []

    def fail(tx: Tx, cmd: Do) -> None:
        if cmd.step == "bad":
            tries.append(tx.attempt)
            raise error

    cast.on_do = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send_all(Do(id="1", step="bad"), Do(id="2", step="good"))
        await until_letters(harness, "worker", 1)
        await harness.until_idle()
        assert tries == [1, 2, 3]
        assert await log(harness, "worker") == ["do good"]


async def test_endless_recursion_in_a_handler_is_a_bug_like_any_other(
    cast: Cast, tmp_path: Path
) -> None:
    def deeper(tx: Tx, cmd: Do) -> None:
        if cmd.step == "bad":
            deeper(tx, cmd)

    cast.on_do = deeper
    limit = sys.getrecursionlimit()
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Do(id="1", step="bad"))
        await until_letters(harness, "worker", 1)
        [(kind, trace)] = await fields(harness, "worker", "error_type", "traceback")
        assert kind == "RecursionError"
        assert len(trace) < 200_000
    assert sys.getrecursionlimit() == limit


async def test_a_result_that_is_no_json_is_the_handler_s_bug(tmp_path: Path) -> None:
    odd = Participant("counter", schema="CREATE TABLE sum (amount INTEGER NOT NULL) STRICT;")

    @odd.handle(retry=Policy(attempts=1))
    def count(tx: Tx, cmd: Count) -> None:
        tx.execute("INSERT INTO sum VALUES (?)", (cmd.amount,))
        return object()  # type: ignore[return-value]

    async with hosting(odd, data=tmp_path) as harness:
        await harness.send(Count(id="1", amount=1))
        await until_letters(harness, "counter", 1)
        assert await harness.column("counter", "SELECT amount FROM sum") == []


async def test_requests_about_letters_are_refused_with_a_reason(cast: Cast, tmp_path: Path) -> None:
    cast.break_step("bad")
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Do(id="1", step="bad"))
        await until_letters(harness, "worker", 1)
        with pytest.raises(Refused, match="worker has no dead letter d-9"):
            await harness.replay("worker", 1, 9)
        assert await letters(harness, "worker") == [("Do", "dead")]
        await harness.discard("worker", 1, reason="no use")
        with pytest.raises(Refused, match="d-1 is discarded"):
            await harness.discard("worker", 1)
        with pytest.raises(Refused, match="does not own"):
            await harness.request("send", "worker", "Go", {"id": "m", "data": {"id": "1"}})
        with pytest.raises(Refused, match=r"Object missing required field `id`"):
            await harness.request("send", "worker", "Do", {"id": "m", "data": {}})
        with pytest.raises(Refused, match="nobody is not hosted here"):
            await harness.request("send", "nobody", "Do", {"id": "m", "data": {}})
        assert sent_to(harness, "worker") == []
