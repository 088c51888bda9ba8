"""P11: sent = accepted + still in the outbox; accepted = done + held + dead + discarded.

``hosting`` checks it after every test of this folder, twice: by ``monitor.audit`` and by ``Books``,
which knows only the schema. Here: that it holds at every moment, and that a breach is found.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from outboxd import Retry, Tx, monitor
from outboxd.message import in_stream
from outboxd.testing import Harness, wait_until
from tests.promises.books import Books
from tests.promises.cast import Cast, Do, hosting, letters
from tests.promises.traffic import Traffic, moody, weather

pytestmark = pytest.mark.anyio


async def test_the_audit_holds_at_every_moment_of_a_storm(tmp_path: Path) -> None:
    chance = random.Random(11)
    traffic = Traffic(moody(chance, 0.2))
    async with hosting(*traffic.participants, data=tmp_path) as harness:
        harness.stream.chance, harness.stream.faults = chance, weather(chance)
        await traffic.emit(harness, a=30, b=30, c=30)
        audits = 0
        while not await traffic.has_arrived(harness):
            harness.advance(0.1)
            audit = partial(monitor.audit, tmp_path)
            assert await anyio.to_thread.run_sync(audit) == []
            audits += 1
        assert audits > 3
        await traffic.arrival(harness)


async def test_every_place_that_a_message_can_be_in_is_counted(cast: Cast, tmp_path: Path) -> None:
    """Done, waiting, retrying, dead, discarded, replayed: six messages, six places."""

    def sorted_out(tx: Tx, cmd: Do) -> None:
        if cmd.step in ("dead", "discarded", "replayed"):
            raise ValueError(cmd.step)
        if cmd.step == "retrying":
            raise Retry("later", after=3600)

    cast.on_do = sorted_out
    async with hosting(*cast.participants, data=tmp_path) as harness:
        steps = ("done", "dead", "discarded", "replayed", "retrying")
        waiting = [Do(id="behind", step="retrying"), Do(id="behind", step="waiting")]
        await harness.send_all(*[Do(id=step, step=step) for step in steps], *waiting)
        await wait_until(lambda: have_letters(harness, 3))
        await harness.discard("worker", 2)
        cast.mend()
        await harness.replay("worker", 3)
        await wait_until(lambda: is_replayed(harness))
        sql = "SELECT accepted, done FROM outboxd_sender WHERE sender = '*'"
        assert await harness.rows("worker", sql) == [(7, 2)]
        assert await letters(harness, "worker") == [
            ("Do", "dead"),
            ("Do", "discarded"),
            ("Do", "replayed"),
        ]
        assert await harness.column("worker", "SELECT count(*) FROM outboxd_inbox") == [3]


async def have_letters(harness: Harness, count: int) -> bool:
    return len(await letters(harness, "worker")) == count


async def is_replayed(harness: Harness) -> bool:
    return ("Do", "replayed") in await letters(harness, "worker")


BREACHES = [
    ("left", "UPDATE outboxd_sender SET done = done - 1"),
    ("left", "UPDATE outboxd_sender SET accepted = accepted + 1 WHERE kind = 'in'"),
    ("left", "DELETE FROM outboxd_inbox"),
    ("source", "DELETE FROM outboxd_outbox WHERE seq = (SELECT max(seq) FROM outboxd_outbox)"),
    ("source", "DELETE FROM outboxd_outbox WHERE seq = (SELECT min(seq) FROM outboxd_outbox)"),
]


@pytest.mark.parametrize(("participant", "breach"), BREACHES)
async def test_a_breach_is_found(participant: str, breach: str, tmp_path: Path) -> None:
    def closed(key: str, number: int) -> None:
        if number > 2:
            raise Retry("the bank is closed", after=3600)

    traffic = Traffic(closed)
    async with hosting(*traffic.participants, data=tmp_path) as harness:
        await traffic.emit(harness, a=5)
        await wait_until(lambda: are_held(harness))
        harness.stream.hold(in_stream("left"))
        await traffic.emit(harness, a=5)
    assert monitor.audit(tmp_path) == []
    with closing(sqlite3.connect(tmp_path / f"{participant}.db")) as connection:
        assert connection.execute(breach).rowcount > 0
        connection.commit()
    assert Books(tmp_path).errors() != []
    assert monitor.audit(tmp_path) != []


async def are_held(harness: Harness) -> bool:
    return await harness.column("left", "SELECT count(*) FROM outboxd_inbox") == [2]
