"""After the retention: what is forgotten in one place is not believed in another."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from outboxd import Context, Participant, Saga, feedfile
from outboxd.clock import utc
from outboxd.message import decode_envelope, encode
from outboxd.monitor import audit
from outboxd.registry import Registry
from outboxd.store import journal, retention
from outboxd.store.connection import Connection
from outboxd.store.journal import SagaRow
from outboxd.store.retention import KEEP_S
from outboxd.testing import Harness, wait_until
from tests.promises.cast import Act, Cast, Do, Go, Undo, envelope, hosting, letters, log

pytestmark = pytest.mark.anyio

A_MONTH_S = KEEP_S + 3600.0


async def pass_a_month(harness: Harness, *names: str) -> None:
    """A month later these have forgotten what was finished before; the others have not yet."""
    harness.advance(A_MONTH_S)
    for name in names:
        await harness.runtime.hosted[name].prune(harness.clock.now() - KEEP_S)


async def test_a_round_follows_the_one_that_runs_when_the_first_is_forgotten(
    cast: Cast, tmp_path: Path
) -> None:
    sleeps = False

    @cast.desk.saga(again="after_end")
    async def trip(saga: Saga, go: Go) -> str:
        await saga.call(Do(id=go.id))
        if sleeps:
            await saga.sleep("9000h")
        return saga.id

    async with hosting(*cast.participants, data=tmp_path) as harness:
        first = await harness.start(Go(id="1"))
        assert await first.result() == "desk/trip/1"
        harness.advance(A_MONTH_S)
        sleeps = True
        second = await harness.start(Go(id="1"))
        await wait_until(
            lambda: harness.rows("desk", "SELECT 1 FROM outboxd_saga WHERE step LIKE 'sleep %'")
        )
        await pass_a_month(harness, "desk", "worker")
        rounds = await harness.column("desk", "SELECT id FROM outboxd_saga")
        assert rounds == [second.id] == ["desk/trip/1@2"]
        assert (await harness.start(Go(id="1"))).id == second.id
        assert await harness.column("desk", "SELECT id FROM outboxd_saga") == [second.id]


async def test_starts_of_one_key_in_one_batch_are_rounds_of_their_own(
    cast: Cast, tmp_path: Path
) -> None:
    @cast.desk.saga(again="after_end")
    async def trip(saga: Saga, go: Go) -> str:
        return saga.id

    async with hosting(*cast.participants, data=tmp_path) as harness:
        handles = await harness.runtime.start_all([Go(id="1")] * 12)
        ids = [handle.id for handle in handles]
        assert ids == ["desk/trip/1", *(f"desk/trip/1@{n}" for n in range(2, 13))]
        assert (await harness.start(Go(id="1"))).id == "desk/trip/1@13"


async def test_a_start_reads_the_last_round_and_not_all_of_them(
    cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @cast.desk.saga(again="after_end")
    async def trip(saga: Saga, go: Go) -> str:
        return saga.id

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.runtime.start_all([Go(id="1")] * 300)
        read: list[str] = []
        get_saga = journal.get_saga

        def noted(connection: Connection, saga_id: str) -> SagaRow | None:
            read.append(saga_id)
            return get_saga(connection, saga_id)

        monkeypatch.setattr(journal, "get_saga", noted)
        delivery = harness.runtime.hosted["desk"].delivery
        delivery._is_stale = True
        await harness.start(Go(id="1"))
        assert set(read) <= {f"desk/trip/1@{n}" for n in range(298, 302)}


async def test_a_key_may_be_used_again_while_receivers_remember_the_forgotten_saga(
    cast: Cast, tmp_path: Path
) -> None:
    fails = False

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        done = await saga.call(Do(id=go.id), undo=Undo(id=go.id))
        if fails:
            saga.fail("no")
        return done

    async with hosting(*cast.participants, data=tmp_path) as harness:
        await (await harness.start(Go(id="1"))).result()
        await pass_a_month(harness, "desk")
        await (await harness.start(Go(id="1"))).result()
        assert await log(harness, "worker") == ["do a", "do a"]
        await pass_a_month(harness, "desk")
        fails = True
        await harness.start(Go(id="1"))
        await harness.until_saga("desk/trip/1", "compensated")
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a", "do a", "do a", "undo a"]
        await harness.until_idle()
    assert audit(tmp_path) == []


async def test_an_answer_to_a_forgotten_saga_moves_no_later_one(cast: Cast, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("broken")

    @cast.desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return await saga.call(Do(id=go.id))

    cast.on_do = refuse
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.start(Go(id="1"))
        await harness.until_saga("desk/trip/1", "stuck: letter")
        await harness.discard("worker", 1)
        await harness.until_saga("desk/trip/1", "compensated")
        body = (await harness.column("worker", "SELECT body FROM outboxd_dead"))[0]
        await pass_a_month(harness, "desk")
        await harness.start(Go(id="1"))
        await harness.until_saga("desk/trip/1", "stuck: letter")
        call = decode_envelope(body)
        late = msgspec.structs.replace(
            call,
            id=f"{call.id}:ok",
            kind="reply",
            outcome="ok",
            causationid=call.id,
            source="worker",
            data=msgspec.Raw(b'"late"'),
            replyto=None,
            time=utc(harness.clock.now()),
            epoch=0,
            seq=0,
        )
        await harness.put("desk", encode(late))
        await harness.until_idle()
        assert (await harness.saga("desk/trip/1")).stuck == "letter"


async def test_a_foreign_message_from_before_the_retention_is_a_letter(
    cast: Cast, tmp_path: Path
) -> None:
    async with hosting(*cast.participants, data=tmp_path) as harness:
        now = harness.clock.now()
        body = envelope(Do(id="1"), "web-1", time=utc(now))
        await harness.put("worker", body)
        await wait_until(lambda: log(harness, "worker"))
        await harness.until_idle()
        await pass_a_month(harness, "worker")
        for _ in range(2):
            await harness.put("worker", body)
        found = await wait_until(lambda: letters(harness, "worker"))
        error = (await harness.column("worker", "SELECT error FROM outboxd_dead"))[0]
        assert "web-1 of stranger is too old" in error
        assert "30 days" in error
        await harness.put("worker", envelope(Do(id="2"), "web-2", time=utc(harness.clock.now())))
        await wait_until(lambda: log(harness, "worker", "2"))
        assert await letters(harness, "worker") == found
        assert await log(harness, "worker", "1") == ["do a"]
        await harness.replay("worker", 1)
        await harness.until_idle()
        assert await log(harness, "worker", "1") == ["do a", "do a"]
    assert audit(tmp_path) == []


async def test_a_line_of_a_feed_may_say_from_when_it_is(cast: Cast, tmp_path: Path) -> None:
    async with hosting(*cast.participants, data=tmp_path / "data") as harness:
        now = utc(harness.clock.now())
        old = (now - timedelta(seconds=A_MONTH_S)).isoformat()
        feed = tmp_path / "feed.jsonl"
        lines = [
            {"type": "Do", "data": {"id": "1"}, "time": old},
            {"type": "Do", "data": {"id": "2"}},
        ]
        feed.write_bytes(b"\n".join(encode(line) for line in lines))
        taken: list[bool] = []
        await harness.runtime.intake.feed(feed, taken.append)
        await harness.until_idle()
        assert await log(harness, "worker") == ["do a"]
        assert len(await letters(harness, "worker")) == 1


def test_a_time_without_a_zone_is_refused_in_a_feed(cast: Cast, tmp_path: Path) -> None:
    feed = tmp_path / "feed.jsonl"
    feed.write_text('{"type": "Do", "data": {"id": "1"}, "time": "2026-01-01T00:00:00"}')
    (found,) = feedfile.read(feed, Registry(cast.participants), utc(1_800_000_000.0))
    assert isinstance(found, feedfile.Refusal)
    assert "time" in found.reason


async def test_pruning_begins_with_the_start_and_goes_on_until_all_of_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Participant("desk")

    @desk.saga
    async def trip(saga: Saga, go: Go) -> str:
        return "done"

    monkeypatch.setattr(retention, "SAGAS", 7)
    monkeypatch.setattr(retention, "LIMIT", 7)
    async with hosting(desk, data=tmp_path) as harness:
        await harness.runtime.start_all([Go(id=str(n)) for n in range(60)])
        await harness.send_all(*(Go(id=f"sent-{n}") for n in range(20)))
        await harness.until_idle()
        clock, stream = harness.clock, harness.stream
    clock.advance(A_MONTH_S)
    async with hosting(desk, data=tmp_path, clock=clock, stream=stream) as harness:

        async def is_empty() -> bool:
            tables = ("saga", "journal", "seen", "applied")
            return not any(
                [await harness.rows("desk", f"SELECT 1 FROM outboxd_{t}") for t in tables]
            )

        async def are_forgotten() -> bool:
            return not await harness.runtime.control.read(
                lambda cx: cx.execute("SELECT * FROM request").fetchall()
            )

        await wait_until(is_empty)
        await wait_until(are_forgotten)
        assert harness.runtime.progress().started == 0
        await (await harness.start(Go(id="1"))).result()


async def test_what_an_effect_did_is_forgotten_with_its_letter(cast: Cast, tmp_path: Path) -> None:
    async def breaks(ctx: Context, cmd: Act) -> None:
        async def half() -> str:
            raise ValueError("in the middle")

        await ctx.once("half", half)

    cast.on_act = breaks
    once = "SELECT id FROM outboxd_once"
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.send(Act(id="1"))
        await harness.send(Act(id="2"))
        await wait_until(lambda: _count(harness, 2, "courier"))
        await harness.discard("courier", 1)
        await pass_a_month(harness, "courier")
        left = await harness.column("courier", "SELECT id FROM outboxd_dead")
        assert len(left) == 1
        assert await harness.column("courier", once) == left


async def test_what_was_discarded_stays_accounted_for_when_it_is_forgotten(
    cast: Cast, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("broken")

    cast.on_do = refuse
    async with hosting(*cast.participants, data=tmp_path) as harness:
        for n in range(3):
            await harness.send(Do(id=str(n)))
        await wait_until(lambda: _count(harness, 3))
        await harness.discard("worker", 1, 2)
        await pass_a_month(harness, "worker")
        assert await harness.column("worker", "SELECT n FROM outboxd_dead") == [3]
        await harness.until_idle()
    assert audit(tmp_path) == []


async def _count(harness: Harness, n: int, participant: str = "worker") -> bool:
    return len(await letters(harness, participant)) == n
