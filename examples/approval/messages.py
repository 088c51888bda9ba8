"""What travels between the four participants of the office."""

from __future__ import annotations

from outboxd import Command, Event


class Claim(Command[str], to="expenses", key="claim_id"):
    """An employee wants money back; answered with the number of the transfer."""

    claim_id: str
    employee: str
    cents: int


class Decide(Command[None], to="expenses", key="claim_id"):
    """A manager's word, sent by a person: ``outboxd send Decide '{…}'``."""

    claim_id: str
    by: str
    is_approved: bool


class Withdraw(Command[None], to="expenses", key="claim_id"):
    """The employee does not want it any more."""

    claim_id: str


class PayOut(Command[str], to="bank", key="claim_id", timeout="1m"):
    """Answered with the number of the transfer."""

    claim_id: str
    cents: int


class TakeBack(Command[None], to="bank", key="claim_id"):
    """The undo of PayOut."""

    claim_id: str


class Announce(Command[None], to="archive", key="claim_id"):
    """A folder for the receipt that will come."""

    claim_id: str


class FileReceipt(Command[None], to="archive", key="claim_id"):
    """The employee hands in the receipt, early or late."""

    claim_id: str


class ClaimPaid(Event, source="expenses", key="claim_id"):
    """The money is on its way."""

    claim_id: str


class ReceiptFiled(Event, source="archive", key="claim_id"):
    """The receipt is there."""

    claim_id: str


class ReceiptMissing(Event, source="audit", key="claim_id"):
    """Two weeks have passed without it."""

    claim_id: str
