"""Mistakes in tests on the simulator: a type checker reports each line marked so, and no other."""

from outboxd.testing import simulated
from tests.typing.correct.messages import AuthorizePayment, OrderCompleted, PlaceOrder

ORDER = PlaceOrder(order_id="o-1", cents=1, address="Zoo 1")


def takes(number: int, events: list[OrderCompleted]) -> None: ...


def test_mistakes() -> None:
    with simulated("plugins") as shop:
        saga = shop.send(ORDER)
        takes(saga.result, [])  # error
        takes(1, shop.sent(AuthorizePayment))  # error
        shop.send(PlaceOrder)  # error
        shop.send("PlaceOrder")  # error
        shop.fail_next(ORDER)  # error
        shop.reject_next(OrderCompleted)  # error
        shop.crash_at("before lunch", AuthorizePayment)  # error
        shop.cancel(ORDER)  # error
        shop.outside("book").returns()  # error
        shop.advance(None)  # error
        saga.state = "completed"  # error
