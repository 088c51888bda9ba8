"""P1, P2, P4 and P5 of the outbox alone: its application is killed while it sells."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest

from outboxd import Participant, Runtime, Tx
from tests.crash.kiosk import Sold

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent.parent
KILLS = 4
SALES = 25


def a_ledger() -> Participant:
    ledger = Participant("ledger", schema="CREATE TABLE entry (n INTEGER NOT NULL) STRICT")

    @ledger.handle
    def sold(tx: Tx, cmd: Sold) -> None:
        tx.execute("INSERT INTO entry VALUES (?)", (cmd.n,))

    return ledger


def till(path: Path, url: str, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.kiosk", str(path), url, what],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def sell_and_die(path: Path, url: str) -> None:
    """Kills it in the middle of whatever it does after so many sales."""
    child = till(path, url, "sell")
    assert child.stdout is not None
    for _ in range(SALES):
        assert child.stdout.readline().strip(), "it ended by itself"
    child.kill()
    child.wait()
    child.stdout.close()


def drain(path: Path, url: str) -> None:
    child = till(path, url, "drain")
    assert child.wait(timeout=60) == 0
    assert child.stdout is not None
    child.stdout.close()


@pytest.mark.timeout(120)
async def test_each_sale_that_was_committed_arrives_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "till.db"
    async with Runtime([a_ledger()], data=tmp_path / "ledger") as runtime:
        assert runtime.broker.embedded is not None
        url = runtime.broker.embedded.url
        for _ in range(KILLS):
            await anyio.to_thread.run_sync(sell_and_die, path, url)
        await anyio.to_thread.run_sync(drain, path, url)
        await runtime.until_idle()
        entries = await runtime.hosted["ledger"].database.read(
            lambda cx: cx.execute("SELECT n FROM entry ORDER BY rowid").fetchall()
        )
    with closing(sqlite3.connect(path)) as connection:
        sales = connection.execute("SELECT n FROM sale ORDER BY n").fetchall()
        left = connection.execute("SELECT COUNT(*) FROM outboxd_send").fetchone()
    assert len(sales) >= KILLS * SALES
    assert entries == sales
    assert left == (0,)
