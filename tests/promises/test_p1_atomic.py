"""P1: what one handled message changes, sends and records is there as a whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import Context, Participant, Reject, Saga, Tx
from outboxd.errors import SagaMisuse
from outboxd.message import in_stream
from outboxd.testing import Harness, wait_until
from tests.promises.cast import (
    Act,
    Cast,
    Do,
    Done,
    Go,
    Undo,
    envelope,
    hosting,
    letters,
    log,
    sent_to,
    write,
)

pytestmark = pytest.mark.anyio

WORKER = in_stream("worker")


async def nothing_is_left(harness: Harness, participant: str) -> None:
    """No business row, no outbox row, no number given out."""
    assert await log(harness, participant) == []
    assert (
        await harness.rows(participant, "SELECT id FROM outboxd_outbox WHERE id LIKE 'm-%'") == []
    )
    assert await harness.rows(participant, "SELECT id FROM outboxd_delayed") == []
    assert await harness.rows(participant, "SELECT id FROM outboxd_fence") == []


def write_and_tell(tx: Tx, cmd: Do) -> None:
    """All that a handler can do."""
    write(tx, cmd.id, "half")
    tx.publish(Done(id=cmd.id, step="half"))
    tx.send(Act(id=cmd.id, step="half"))
    tx.send(Act(id=cmd.id, step="later"), delay="1s")


async def test_a_handler_that_fails_after_all_it_did_leaves_nothing(
    cast: Cast, tmp_path: Path
) -> None:
    def fail(tx: Tx, cmd: Do) -> None:
        write_and_tell(tx, cmd)
        raise RuntimeError("at the very end")

    cast.on_do = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Do(id="1"), "m-1")
        await wait_until(lambda: letters(harness, "worker"))
        harness.advance(5)
        await harness.until_idle()
        await nothing_is_left(harness, "worker")
        assert sent_to(harness, "courier") == []
        assert await log(harness, "courier") == []


async def test_a_no_leaves_nothing_but_its_answer(cast: Cast, tmp_path: Path) -> None:
    def refuse(tx: Tx, cmd: Do) -> None:
        write_and_tell(tx, cmd)
        raise Reject("no")

    cast.on_do = refuse

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id), undo=Undo(id=go.id))

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "compensated")
        harness.advance(5)
        await harness.until_idle()
        await nothing_is_left(harness, "worker")
        assert [e.outcome for e in sent_to(harness, "desk")] == ["rejected"]
        assert sent_to(harness, "courier") == []


async def test_a_commit_of_an_effect_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def commit(tx: Tx, cmd: Act) -> str:
        write(tx, cmd.id, "half")
        tx.send(Do(id=cmd.id))
        raise RuntimeError("at the very end")

    cast = Cast()
    courier = Participant("courier", schema=cast.courier.schema)

    @courier.handle
    async def act(ctx: Context, cmd: Act) -> str:
        try:
            return await ctx.commit(commit, cmd)
        except RuntimeError as err:
            raise Reject(str(err)) from err

    async with hosting(cast.worker, courier, data=tmp_path) as harness:
        await harness.send(Act(id="1"), "m-1")
        await wait_until(lambda: harness.column("courier", "SELECT 1 FROM outboxd_sender"))
        await harness.until_idle()
        await nothing_is_left(harness, "courier")
        assert sent_to(harness, "worker") == []


async def test_a_message_that_fails_takes_none_of_its_batch_along(
    cast: Cast, tmp_path: Path
) -> None:
    """One transaction for all of them, one savepoint for each."""

    def odd(tx: Tx, cmd: Do) -> None:
        write_and_tell(tx, cmd)
        if int(cmd.id) % 2:
            raise RuntimeError("odd")

    cast.on_do = odd
    async with hosting(*cast.participants, data=tmp_path) as harness:
        harness.stream.hold(WORKER)
        for n in range(40):
            await harness.put("worker", envelope(Do(id=str(n)), f"m-{n}"))
        commits = harness.runtime.hosted["worker"].database.commits
        harness.stream.release(WORKER)
        await wait_until(lambda: is_count(harness, "worker", 40))
        harness.advance(5)
        await wait_until(lambda: is_count(harness, "courier", 40))
        await harness.until_idle()
        assert harness.runtime.hosted["worker"].database.commits - commits < 200
        ids = await harness.column("worker", "SELECT DISTINCT id FROM log")
        assert {int(n) % 2 for n in ids} == {0}
        ids = await harness.column("courier", "SELECT DISTINCT id FROM log")
        assert {int(n) % 2 for n in ids} == {0}
        assert len(await letters(harness, "worker")) == 20


async def is_count(harness: Harness, participant: str, count: int) -> bool:
    return len(await log(harness, participant)) == count


async def test_a_bug_in_a_saga_leaves_nothing_of_its_step(cast: Cast, tmp_path: Path) -> None:
    is_broken = [True]

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        await saga.run(write, go.id, "one")
        await saga.send(Do(id=go.id, step="sent"))
        await saga.run(write, go.id, "two")
        if is_broken[0]:
            raise RuntimeError("a bug")
        return "done"

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handle = await harness.start(Go(id="1"))
        await harness.until_saga(handle.id, "stuck: bug")
        await nothing_is_left(harness, "desk")
        kinds = "SELECT kind FROM outboxd_journal ORDER BY n"
        assert await harness.column("desk", kinds) == ["stuck"]
        is_broken[0] = False
        await harness.retry(handle.id)
        assert await handle.result() == "done"
        assert await log(harness, "desk") == ["one", "two"]
        await harness.until_idle()
        assert await log(harness, "worker") == ["do sent"]


async def test_a_transaction_cannot_be_used_after_its_handler(cast: Cast, tmp_path: Path) -> None:
    """There is no way to publish outside of a commit."""
    kept: list[Tx] = []
    cast.on_do = lambda tx, _: kept.append(tx)
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Do(id="1"))
        await wait_until(lambda: log(harness, "worker"))
        for use in (
            lambda: kept[0].publish(Done(id="1", step="late")),
            lambda: kept[0].send(Act(id="1")),
            lambda: kept[0].execute("DELETE FROM log"),
            lambda: kept[0].executemany("DELETE FROM log WHERE id = ?", [("1",)]),
            lambda: kept[0].value("SELECT count(*) FROM log"),
        ):
            with pytest.raises(SagaMisuse, match="this transaction is over"):
                use()


async def test_a_transaction_is_closed_also_where_its_handler_failed(
    cast: Cast, tmp_path: Path
) -> None:
    kept: list[Tx] = []

    def fail(tx: Tx, cmd: Do) -> None:
        kept.append(tx)
        raise Reject("no")

    cast.on_do = fail
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Do(id="1"))
        await wait_until(lambda: kept)
        await harness.until_idle()
        with pytest.raises(SagaMisuse, match="this transaction is over"):
            kept[0].execute("DELETE FROM log")
