"""What a test on the simulator asks for and gets, as README shows it."""

from datetime import datetime
from typing import Any, assert_type

from outboxd import Participant, Unrecoverable
from outboxd.testing import DeadLetter, SagaStep, Seen, Simulation, followed, simulated
from tests.typing.correct.messages import (
    AuthorizePayment,
    BookCourier,
    Booking,
    OrderCompleted,
    PaymentAuthorized,
    PlaceOrder,
    VoidPayment,
)

orders, payments = Participant("orders"), Participant("payments")
ORDER = PlaceOrder(order_id="o-1", cents=1, address="Zoo 1")
COMPLETED = OrderCompleted(order_id="o-1", number="C-1")


def test_verbs_and_what_they_return() -> None:
    with simulated(orders, payments, "plugins.inventory", replays=False, checks=False) as shop:
        assert_type(shop, Simulation)
        saga = shop.send(ORDER, id="start")
        assert_type(saga, Seen[OrderCompleted])
        assert_type(saga.result, OrderCompleted)
        assert_type(saga.state, str)
        assert_type(saga.reason, str | None)
        assert_type(saga.steps, list[SagaStep])
        assert_type(saga.undone, list[str])
        event = shop.send(COMPLETED)
        assert_type(event, Seen[None])
        assert_type(shop.send(AuthorizePayment(order_id="1", cents=1)).result, PaymentAuthorized)
        assert_type(shop.sent(VoidPayment), list[VoidPayment])
        assert_type(shop.handled(OrderCompleted, at="orders"), list[OrderCompleted])
        assert_type(shop.letters("VoidPayment"), list[DeadLetter])
        assert_type(shop.rows("orders", "SELECT ?", 1), list[tuple[Any, ...]])
        assert_type(shop.now, datetime)
        assert_type(shop.saga("orders/fulfil/o-1"), Seen[Any])


def test_what_goes_wrong() -> None:
    with simulated("plugins", stand_ins=True) as shop:
        shop.answers(BookCourier, Booking("C-1"))
        shop.answers(VoidPayment, None)
        shop.fail_next(AuthorizePayment, times=2, error=Unrecoverable("gone"), at="payments")
        shop.fail_next("AuthorizePayment")
        shop.fail_next(OrderCompleted)
        shop.reject_next(AuthorizePayment, "over the limit")
        shop.poison(VoidPayment)
        shop.fix(VoidPayment)
        shop.duplicate(AuthorizePayment, times=2, answer=True)
        shop.lose_next(AuthorizePayment)
        shop.delay(AuthorizePayment, "5s")
        shop.delay("AuthorizePayment", 5)
        shop.away("payments", "1m")
        shop.crash_at("before commit", AuthorizePayment, skip=1)
        shop.crash_at("after acting", "shipping")
        shop.refuse_commit("orders")
        shop.outside("book").fails(times=2)
        shop.outside("book", of="shipping").returns(Booking("C-1"))
        shop.outside("book").raises(ValueError("no"))
        shop.advance("30s")
        shop.advance(0.5)
        shop.run()
        saga = shop.send(ORDER)
        shop.cancel(saga)
        shop.retry("orders/fulfil/o-1")
        shop.replay(*shop.letters())
        shop.discard("payments/d-1")
        shop.restart("orders")
        shop.kill()
        shop.lose_broker()
        shop.check()


def test_a_schedule() -> None:
    followed(
        ["plugins"], [("PlaceOrder", {"order_id": "1"})], [("a point", 1, "a way")], horizon_s=60
    )
