"""Payments: a charge is authorized once, then captured or voided, never both."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outboxd import Reject, Tx, Unrecoverable
from plugins.payments import LIMIT_CENTS, authorize, capture, payments, void
from plugins.payments.messages import (
    AuthorizePayment,
    CapturePayment,
    PaymentAuthorized,
    VoidPayment,
)
from tests.plugins.shop import Desk

ORDER = AuthorizePayment(order_id="o-1", cents=LIMIT_CENTS)
VOID = VoidPayment(order_id="o-1")
CAPTURE = CapturePayment(order_id="o-1")


@pytest.fixture
def desk() -> Desk:
    return Desk(payments)


def test_authorizing_answers_and_publishes_the_same_fact(desk: Desk) -> None:
    assert desk.handle(authorize, ORDER) == PaymentAuthorized(order_id="o-1", cents=LIMIT_CENTS)
    assert [envelope.type for envelope in desk.sent] == ["PaymentAuthorized"]
    assert desk.db.execute("SELECT * FROM charge") == [("o-1", LIMIT_CENTS, "authorized")]


def test_a_charge_over_the_limit_is_declined_and_leaves_nothing(desk: Desk) -> None:
    with pytest.raises(Reject, match="over the limit"):
        desk.handle(authorize, AuthorizePayment(order_id="o-1", cents=LIMIT_CENTS + 1))
    assert not desk.db.execute("SELECT * FROM charge")
    assert not desk.sent


def test_voiding_what_was_never_authorized_changes_nothing(desk: Desk) -> None:
    desk.handle(void, VOID)
    assert not desk.db.execute("SELECT * FROM charge")


def test_a_voided_charge_is_not_captured(desk: Desk) -> None:
    desk.handle(authorize, ORDER)
    desk.handle(void, VOID)
    with pytest.raises(Unrecoverable):
        desk.handle(capture, CAPTURE)
    assert not desk.db.execute("SELECT * FROM ledger")


def test_a_captured_charge_is_not_voided(desk: Desk) -> None:
    desk.handle(authorize, ORDER)
    desk.handle(capture, CAPTURE)
    desk.handle(void, VOID)
    assert desk.db.value("SELECT state FROM charge") == "captured"


STEPS: list[Callable[[Desk], object]] = [
    lambda desk: desk.handle(authorize, ORDER),
    lambda desk: desk.handle(void, VOID),
    lambda desk: desk.handle(capture, CAPTURE),
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=8))
def test_no_order_of_commands_breaks_an_invariant(steps: list[Callable[[Desk], object]]) -> None:
    desk = Desk(payments)
    for step in steps:
        with suppress(Unrecoverable, desk.connection.IntegrityError):
            step(desk)
    assert not [s for invariant in payments.invariants for s in invariant.fn(desk.db)]
    desk.connection.close()


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("INSERT INTO ledger VALUES ('o-1', 5)", "order o-1 was charged 2 times"),
        ("UPDATE charge SET state = 'voided'", "order o-1 was voided, and its money was taken"),
    ],
)
def test_the_invariants_name_the_order(desk: Desk, mistake: str, sentence: str) -> None:
    def spoil(tx: Tx, _: CapturePayment) -> None:
        tx.execute(mistake)

    desk.handle(authorize, ORDER)
    desk.handle(capture, CAPTURE)
    desk.handle(spoil, CAPTURE)
    assert [s for invariant in payments.invariants for s in invariant.fn(desk.db)] == [sentence]
