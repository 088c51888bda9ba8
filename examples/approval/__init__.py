"""An office pays expenses back: a saga that waits for a person, and a deadline for a choreography.

``reimburse`` waits for a manager's word, reminds after three days, and gives up after a week.
``chase`` watches what nobody conducts: after a claim was paid, its receipt must come.
"""

from __future__ import annotations

from outboxd import Participant, Saga, TimedOut, Tx

from .messages import (
    Announce,
    Claim,
    ClaimPaid,
    Decide,
    FileReceipt,
    PayOut,
    ReceiptFiled,
    ReceiptMissing,
    TakeBack,
    Withdraw,
)

expenses = Participant(
    "expenses",
    schema="""
    CREATE TABLE claim (
        claim_id  TEXT PRIMARY KEY,
        cents     INTEGER NOT NULL,
        state     TEXT NOT NULL CHECK (state IN ('open', 'paid', 'refused', 'overdue')),
        reminders INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    """,
)
bank = Participant("bank", schema="CREATE TABLE transfer (claim_id TEXT, cents INTEGER) STRICT;")
archive = Participant("archive", schema="CREATE TABLE folder (claim_id TEXT PRIMARY KEY) STRICT;")
audit = Participant("audit")


@expenses.saga(receives=(Decide, Withdraw))
async def reimburse(saga: Saga, claim: Claim) -> str:
    """Approved by a person, then paid and announced at once; whatever ends it early undoes it."""
    await saga.run(open_claim, claim)
    saga.undo(refuse_claim, claim.claim_id)
    word = await decision(saga, claim.claim_id)
    if not word.is_approved:
        saga.fail(f"{word.by} said no")
    transfer, _ = await saga.all(
        saga.call(
            PayOut(claim_id=claim.claim_id, cents=claim.cents),
            undo=TakeBack(claim_id=claim.claim_id),
        ),
        saga.call(Announce(claim_id=claim.claim_id)),
    )
    await saga.run(set_state, claim.claim_id, "paid")
    await saga.publish(ClaimPaid(claim_id=claim.claim_id))
    return transfer


async def decision(saga: Saga, claim_id: str) -> Decide:
    """A word that came before it was asked for is found; TimedOut after a week unwinds the saga."""
    match await saga.race(
        saga.receive(Decide, timeout="7d"),
        saga.receive(Withdraw, timeout="7d"),
        saga.sleep("3d"),
    ):
        case (0, word):
            return word
        case (1, _):
            saga.fail("withdrawn")
    await saga.run(remind, claim_id)
    match await saga.race(saga.receive(Decide, timeout="4d"), saga.receive(Withdraw, timeout="4d")):
        case (0, word):
            return word
        case _:
            saga.fail("withdrawn")


@audit.saga(receives=(ReceiptFiled,))
async def chase(saga: Saga, paid: ClaimPaid) -> None:
    """Started by an event, it gives what others do among themselves a deadline."""
    try:
        await saga.receive(ReceiptFiled, timeout="14d")
    except TimedOut:
        await saga.publish(ReceiptMissing(claim_id=paid.claim_id))


def open_claim(tx: Tx, claim: Claim) -> None:
    tx.execute(
        "INSERT INTO claim (claim_id, cents, state) VALUES (?, ?, 'open')",
        (claim.claim_id, claim.cents),
    )


def set_state(tx: Tx, claim_id: str, state: str) -> None:
    tx.execute("UPDATE claim SET state = ? WHERE claim_id = ?", (state, claim_id))


def refuse_claim(tx: Tx, claim_id: str) -> None:
    set_state(tx, claim_id, "refused")


def remind(tx: Tx, claim_id: str) -> None:
    tx.execute("UPDATE claim SET reminders = reminders + 1 WHERE claim_id = ?", (claim_id,))


@expenses.handle
def mark_overdue(tx: Tx, missing: ReceiptMissing) -> None:
    set_state(tx, missing.claim_id, "overdue")


@bank.handle
def pay_out(tx: Tx, cmd: PayOut) -> str:
    tx.execute("INSERT INTO transfer VALUES (?, ?)", (cmd.claim_id, cmd.cents))
    return f"transfer of {cmd.cents} cents for {cmd.claim_id}"


@bank.handle
def take_back(tx: Tx, cmd: TakeBack) -> None:
    tx.execute("DELETE FROM transfer WHERE claim_id = ?", (cmd.claim_id,))


@archive.handle
def announce(tx: Tx, cmd: Announce) -> None:
    tx.execute("INSERT OR IGNORE INTO folder VALUES (?)", (cmd.claim_id,))


@archive.handle
def file_receipt(tx: Tx, cmd: FileReceipt) -> None:
    tx.publish(ReceiptFiled(claim_id=cmd.claim_id))


expenses.example(
    Claim(claim_id="c-1", employee="bob", cents=4200),
    Decide(claim_id="c-1", by="ann", is_approved=True),
    Withdraw(claim_id="c-1"),
)
