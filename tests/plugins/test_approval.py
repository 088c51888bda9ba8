"""The example of a saga that waits for a person: with a moved clock, and as its README runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from examples.approval import archive, audit, bank, expenses
from examples.approval.messages import Claim, Decide, FileReceipt, Withdraw
from outboxd import Rejected
from outboxd.testing import Harness, wait_until
from tests.promises.cast import hosting, until_step

ROOT = Path(__file__).parents[2]
DAY = 86400.0
CLAIM = Claim(claim_id="c-1", employee="bob", cents=4200)
YES = Decide(claim_id="c-1", by="ann", is_approved=True)


@asynccontextmanager
async def office(data: Path) -> AsyncIterator[Harness]:
    async with hosting(expenses, bank, archive, audit, data=data) as harness:
        yield harness


async def claim(harness: Harness) -> tuple[str, int]:
    """(state, reminders) of the claim."""
    rows = await harness.rows("expenses", "SELECT state, reminders FROM claim")
    return rows[0][0], rows[0][1]


async def is_waiting_for_a_word(harness: Harness) -> bool:
    return (await claim(harness))[1] == 1


@pytest.mark.anyio
async def test_an_approved_claim_is_paid(tmp_path: Path) -> None:
    async with office(tmp_path) as harness:
        handle = await harness.start(CLAIM)
        await until_step(harness, handle.id, "Decide, Withdraw, sleep 259200s")
        await harness.send(YES)
        assert await handle.result() == "transfer of 4200 cents for c-1"
        assert await claim(harness) == ("paid", 0)
        assert await harness.column("archive", "SELECT claim_id FROM folder") == ["c-1"]
        await harness.send(FileReceipt(claim_id="c-1"))
        await harness.until_saga("audit/chase/c-1", "completed")


@pytest.mark.anyio
async def test_a_manager_is_reminded_and_the_claim_runs_out(tmp_path: Path) -> None:
    async with office(tmp_path) as harness:
        handle = await harness.start(CLAIM)
        await until_step(harness, handle.id, "Decide, Withdraw, sleep 259200s")
        harness.advance(3 * DAY)
        await wait_until(lambda: is_waiting_for_a_word(harness), "reminded")
        await until_step(harness, handle.id, "Decide, Withdraw")
        harness.advance(4 * DAY)
        with pytest.raises(Rejected, match="no Decide came within 345600 s"):
            await handle.result()
        assert await claim(harness) == ("refused", 1)


@pytest.mark.anyio
async def test_a_claim_is_withdrawn(tmp_path: Path) -> None:
    async with office(tmp_path) as harness:
        handle = await harness.start(CLAIM)
        await harness.send(Withdraw(claim_id="c-1"))
        with pytest.raises(Rejected, match="withdrawn"):
            await handle.result()
        assert await harness.column("bank", "SELECT * FROM transfer") == []


@pytest.mark.anyio
async def test_a_receipt_that_does_not_come_within_two_weeks_is_told(tmp_path: Path) -> None:
    async with office(tmp_path) as harness:
        await harness.send(YES)
        handle = await harness.start(CLAIM)
        await handle.result()
        await until_chasing(harness)
        harness.advance(14 * DAY)

        async def is_overdue() -> bool:
            return await claim(harness) == ("overdue", 0)

        await wait_until(is_overdue, "the claim is overdue")


async def until_chasing(harness: Harness) -> None:
    async def is_chasing() -> bool:
        return bool(await harness.column("audit", "SELECT 1 FROM outboxd_call"))

    await wait_until(is_chasing, "the receipt is waited for")


def test_it_runs_as_its_readme_says(tmp_path: Path) -> None:
    feed = "examples/approval/claims.jsonl"
    arguments = ["run", "examples/approval", "--data", str(tmp_path / "office"), "--feed", feed]
    ran = subprocess.run(
        [sys.executable, "-m", "outboxd", *arguments, "--until-idle"],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "outboxd", "saga", "list", "--data", str(tmp_path / "office")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert shown.count("completed") == 2  # the claim, and the chase for its receipt
    assert shown.count("compensated") == 2


def test_the_application_beside_it_decides_in_one_call(tmp_path: Path) -> None:
    """Twice in the same directory: what was decided stays decided."""
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-m", "examples.approval.app", str(tmp_path / "office")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stdout) == (0, "transfer of 4200 cents for c-9\n"), ran.stderr
