"""Each verb of ``outboxd.testing.simulated`` does what it says, on the shipped plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from outboxd import Command, Participant, Unrecoverable
from outboxd.errors import ConfigError, NotFound, Refused
from outboxd.testing import Simulation, simulated
from plugins.inventory import inventory
from plugins.inventory.messages import ReserveStock
from plugins.notifications import notifications
from plugins.orders import orders
from plugins.orders.messages import OrderCompleted, OrderFailed, PlaceOrder
from plugins.payments import payments
from plugins.payments.messages import (
    AuthorizePayment,
    CapturePayment,
    PaymentAuthorized,
    VoidPayment,
)
from plugins.shipping import shipping
from plugins.shipping.courier import NotServed
from plugins.shipping.messages import Booking, CancelShipment, ScheduleShipment

SHOP = (orders, payments, inventory, shipping, notifications)


class Stranger(Command[None], to="nobody"):
    """Nobody here knows it."""


def an_order(order_id: str = "1", cents: int = 1500, sku: str = "mug") -> PlaceOrder:
    return PlaceOrder(
        order_id=order_id, email="ada@example", sku=sku, quantity=1, cents=cents, zone="DE"
    )


@pytest.fixture
def shop() -> Iterator[Simulation]:
    with simulated(*SHOP) as shop:
        yield shop


def test_a_saga_runs_to_its_end_before_send_returns(shop: Simulation) -> None:
    saga = shop.send(an_order())
    assert saga.state == "completed"
    assert saga.result.order_id == "1"
    assert saga.reason is None
    assert saga.saga_id == "orders/fulfil/1"
    assert saga.steps == [
        ("create_order", "ran"),
        ("AuthorizePayment", "ok"),
        ("ReserveStock", "ok"),
        ("ScheduleShipment", "ok"),
        ("CapturePayment", "ok"),
        ("complete_order", "ran"),
        ("OrderCompleted", "published"),
    ]
    assert saga.undone == []
    assert shop.rows("orders", "SELECT state FROM orders") == [("completed",)]
    assert shop.now == datetime(2027, 1, 15, 8, tzinfo=UTC)


def test_plugins_are_found_by_name() -> None:
    with simulated("plugins.payments") as shop:
        assert shop.send(AuthorizePayment(order_id="1", cents=5)).state == "handled"


def test_a_rejected_step_undoes_what_was_done_before_it(shop: Simulation) -> None:
    shop.reject_next(ScheduleShipment, "no courier today")
    saga = shop.send(an_order())
    assert saga.state == "compensated"
    assert saga.reason == "ScheduleShipment: no courier today"
    assert saga.steps[3] == ("ScheduleShipment", "rejected")
    assert saga.undone == ["ReleaseStock", "VoidPayment", "fail_order"]
    assert shop.sent(VoidPayment) == [VoidPayment(order_id="1")]
    assert shop.handled(VoidPayment) == [VoidPayment(order_id="1")]
    assert shop.sent(CapturePayment) == []
    assert [event.reason for event in shop.handled(OrderFailed)] == ["no courier today"]
    with pytest.raises(
        AssertionError, match="orders/fulfil/1 is compensated, ScheduleShipment: no"
    ):
        repr(saga.result)


def test_only_so_many_are_rejected_and_failures_are_told_by_type_name(shop: Simulation) -> None:
    shop.reject_next("AuthorizePayment", times=2)
    states = [shop.send(an_order(order_id)).state for order_id in "123"]
    assert states == ["compensated", "compensated", "completed"]


def test_a_failed_try_is_repeated_when_time_passes(shop: Simulation) -> None:
    shop.fail_next(AuthorizePayment, times=2)
    saga = shop.send(an_order())
    assert saga.state == "running"
    assert saga.waits_for == "AuthorizePayment"
    assert saga.steps[-1] == ("AuthorizePayment", "waiting")
    shop.advance("2s")
    assert saga.state == "completed"


def test_time_passes_exactly_as_far_as_the_test_says(shop: Simulation) -> None:
    before = shop.now
    shop.advance("1m30s")
    shop.advance(0.5)
    assert shop.now - before == timedelta(seconds=90.5)


def test_a_poisoned_message_becomes_a_letter_and_a_replay_after_the_fix_ends_the_saga(
    shop: Simulation,
) -> None:
    shop.poison(AuthorizePayment)
    saga = shop.send(an_order())
    shop.advance("20s")
    assert saga.state == "stuck"
    (letter,) = shop.letters()
    assert (letter.name, letter.type, letter.key) == ("payments/d-1", "AuthorizePayment", "1")
    assert letter.error == "Injected: simulated: a failure"
    assert shop.letters(ReserveStock) == []
    shop.fix(AuthorizePayment)
    shop.replay(letter)
    assert saga.state == "completed"
    assert shop.letters() == []


def test_a_handler_can_raise_what_the_test_wants(shop: Simulation) -> None:
    shop.fail_next(AuthorizePayment, error=Unrecoverable("the card is gone"))
    saga = shop.send(an_order())
    assert saga.state == "stuck"
    assert [letter.error for letter in shop.letters()] == ["Unrecoverable: the card is gone"]
    shop.discard("payments/d-1")
    assert saga.state == "compensated"


def test_the_end_of_the_block_replays_what_died_of_the_test_itself() -> None:
    with simulated(*SHOP) as shop:
        shop.poison(ReserveStock)
        saga = shop.send(an_order())
        shop.run()
        assert saga.state == "stuck"
        shop.check()
        assert saga.state == "completed"


def test_a_command_to_a_handler_shows_its_reply_or_its_no() -> None:
    with simulated(payments) as shop:
        paid = shop.send(AuthorizePayment(order_id="1", cents=5))
        assert paid.state == "handled"
        assert paid.result == PaymentAuthorized(order_id="1", cents=5)
        refused = shop.send(AuthorizePayment(order_id="2", cents=1_000_000))
        assert (refused.state, refused.reason) == ("rejected", "over the limit")
        with pytest.raises(AssertionError, match="sent-2 is rejected: over the limit"):
            repr(refused.result)
        with pytest.raises(AssertionError, match="has started no saga: it is handled"):
            repr(paid.steps)
        shop.fail_next(VoidPayment)
        late = shop.send(VoidPayment(order_id="1"))
        assert late.state == "waiting"
        assert late.reason == "Injected: simulated: a failure"
        shop.run()
        assert late.state == "handled"


def test_the_same_message_sent_twice_is_handled_once() -> None:
    with simulated(payments) as shop:
        shop.send(AuthorizePayment(order_id="1", cents=5), id="a")
        shop.send(AuthorizePayment(order_id="1", cents=5), id="a")
        assert len(shop.handled(AuthorizePayment)) == 1


def test_an_event_from_outside_reaches_whoever_subscribes() -> None:
    with simulated(notifications) as shop:
        shop.send(OrderCompleted(order_id="1", email="ada@example", shipment="C-1"))
        assert len(shop.rows("notifications", "SELECT * FROM mail WHERE order_id = ?", "1")) == 1


def test_a_doubled_delivery_changes_nothing(shop: Simulation) -> None:
    shop.duplicate(AuthorizePayment)
    shop.duplicate(AuthorizePayment, answer=True)
    assert shop.send(an_order()).state == "completed"
    assert len(shop.handled(AuthorizePayment)) == 1
    assert sum("stands there twice" in line for line in shop.story()) == 2


def test_a_lost_message_is_published_again(shop: Simulation) -> None:
    shop.lose_next(ReserveStock)
    saga = shop.send(an_order())
    assert saga.waits_for == "ReserveStock"
    shop.run()
    assert saga.state == "completed"


def test_a_delayed_message_comes_when_its_time_has_come(shop: Simulation) -> None:
    shop.delay(ReserveStock, "5s")
    saga = shop.send(an_order())
    shop.advance("4.9s")
    assert saga.waits_for == "ReserveStock"
    shop.advance("0.2s")
    assert saga.state == "completed"


def test_a_late_answer_finds_the_step_timed_out_and_undone(shop: Simulation) -> None:
    shop.delay(AuthorizePayment, "40s")
    saga = shop.send(an_order())
    shop.advance("31s")
    assert saga.steps[1] == ("AuthorizePayment", "timed out")
    shop.advance("10s")
    assert saga.state == "compensated"
    assert shop.rows("payments", "SELECT state FROM charge") == [("voided",)]


def test_a_participant_that_is_away_answers_when_it_is_back(shop: Simulation) -> None:
    shop.away("inventory", "10s")
    saga = shop.send(an_order())
    shop.advance("9s")
    assert saga.state == "running"
    shop.advance("2s")
    assert saga.state == "completed"


@pytest.mark.parametrize("point", ["before commit", "after commit"])
@pytest.mark.parametrize("answer", [False, True])
def test_a_process_killed_around_a_commit_loses_and_repeats_nothing(
    shop: Simulation, point: str, answer: bool
) -> None:
    shop.crash_at(point, AuthorizePayment, answer=answer)  # type: ignore[arg-type]  # a parameter
    saga = shop.send(an_order())
    shop.run()
    assert saga.state == "completed"
    assert len(shop.handled(AuthorizePayment)) == 1
    killed = "orders" if answer else "payments"
    assert any(killed in line and "is killed" in line for line in shop.story())


def test_a_process_killed_after_it_published_repeats_nothing(shop: Simulation) -> None:
    shop.crash_at("after publish", ReserveStock)
    shop.crash_at("after publish", "payments")
    shop.send(an_order())
    shop.run()
    assert len(shop.handled(ReserveStock)) == 1


def test_a_process_killed_after_the_outside_acted_acts_again_with_the_same_key(
    shop: Simulation,
) -> None:
    shop.crash_at("after acting", ScheduleShipment)
    saga = shop.send(an_order())
    shop.run()
    assert saga.state == "completed"
    assert sum("acts outside: 'book'" in line for line in shop.story()) == 2


def test_a_later_commit_of_an_effect_is_reached_by_skipping(shop: Simulation) -> None:
    shop.crash_at("before commit", ScheduleShipment, skip=3)
    shop.send(an_order())
    shop.run()
    told = "\n".join(shop.story())
    assert "commits what ScheduleShipment 1 learned: the process is killed" in told
    assert len(shop.rows("shipping", "SELECT * FROM shipment")) == 1


def test_a_disk_that_refuses_a_commit_is_asked_again(shop: Simulation) -> None:
    shop.refuse_commit("inventory")
    saga = shop.send(an_order())
    shop.run()
    assert saga.state == "completed"
    assert any("the disk refuses the commit" in line for line in shop.story())


def test_a_broker_that_lost_everything_gets_it_again(shop: Simulation) -> None:
    shop.away("payments", "5s")
    saga = shop.send(an_order())
    shop.lose_broker()
    shop.run()
    assert saga.state == "completed"


def test_a_restart_and_a_kill_keep_what_was_committed(shop: Simulation) -> None:
    shop.outside("book").fails()
    saga = shop.send(an_order())
    shop.restart()
    shop.kill("shipping")
    shop.run()
    assert saga.state == "completed"


def test_the_outside_fails_before_and_after_it_acts(shop: Simulation) -> None:
    shop.outside("book").fails()
    shop.outside("book", of="shipping").fails_after_acting()
    saga = shop.send(an_order())
    shop.run()
    assert saga.state == "completed"
    assert sum("acts outside: 'book'" in line for line in shop.story()) == 2
    assert len(shop.rows("shipping", "SELECT * FROM shipment")) == 1


def test_an_outside_that_hangs_is_given_up_after_the_handlers_time(shop: Simulation) -> None:
    shop.outside("book").hangs()
    saga = shop.send(an_order())
    shop.advance("9s")
    assert saga.waits_for == "ScheduleShipment"
    shop.advance("5s")
    assert saga.state == "completed"
    assert any("ScheduleShipment 1 took too long" in line for line in shop.story())


def test_the_outside_returns_and_raises_what_the_test_says(shop: Simulation) -> None:
    shop.outside("book").returns("C-77")
    assert shop.send(an_order("1")).result.shipment == "C-77"
    shop.outside("book").raises(NotServed("not on Sundays"))
    refused = shop.send(an_order("2"))
    assert refused.reason == "ScheduleShipment: not on Sundays"
    assert shop.sent(CancelShipment) == []


def test_a_saga_is_cancelled_and_a_second_time_refused(shop: Simulation) -> None:
    shop.away("inventory", "10s")
    saga = shop.send(an_order())
    shop.cancel(saga)
    shop.run()
    assert saga.state == "cancelled"
    assert saga.undone[-1] == "fail_order"
    with pytest.raises(Refused):
        shop.cancel(saga)


def test_a_saga_is_found_by_its_id(shop: Simulation) -> None:
    shop.send(an_order())
    assert shop.saga("orders/fulfil/1").state == "completed"
    with pytest.raises(NotFound, match="there are orders/fulfil/1"):
        shop.saga("orders/fulfil/2")


def test_sagas_do_not_disturb_each_other(shop: Simulation) -> None:
    shop.delay(ReserveStock, "5s")
    sagas = [shop.send(an_order(str(number), sku="vase")) for number in range(5)]
    shop.run()
    assert sorted(saga.state for saga in sagas) == ["compensated"] * 2 + ["completed"] * 3


def test_hundreds_of_sagas_go_on_at_one_moment(shop: Simulation) -> None:
    shop.away("payments", "10s")
    sagas = [shop.send(an_order(str(number))) for number in range(300)]
    shop.advance("11s")
    assert {saga.state for saga in sagas} == {"completed"}


# What a test may not ask for.


def test_unknown_names_are_told_with_the_nearest(shop: Simulation) -> None:
    with pytest.raises(ConfigError, match="AuthorisePayment; did you mean AuthorizePayment"):
        shop.fail_next("AuthorisePayment")
    with pytest.raises(ConfigError, match="no participant 'payment' is hosted here; did you mean"):
        shop.rows("payment", "SELECT 1")
    with pytest.raises(ConfigError, match="PlaceOrder starts a saga, and there are handlers"):
        shop.fail_next(PlaceOrder)
    with pytest.raises(ConfigError, match="Stranger has no handler here: there are handlers for"):
        shop.fail_next(Stranger)
    with pytest.raises(ConfigError, match="no participant here takes Stranger"):
        shop.send(Stranger())
    with pytest.raises(ConfigError, match="'before lunch' is no point to crash at"):
        shop.crash_at("before lunch", "orders")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="write it as payments/d-1"):
        shop.replay("d-1")
    with pytest.raises(Refused, match="payments has no dead letter d-9"):
        shop.replay("payments/d-9")


def test_a_participant_that_is_called_and_not_hosted_is_named() -> None:
    with pytest.raises(ConfigError, match=r"AuthorizePayment .* belongs to 'payments', which"):
        simulated(orders, inventory, shipping)


def test_a_saga_is_tested_without_the_participants_that_it_calls() -> None:
    with simulated(orders, stand_ins=True) as shop:
        saga = shop.send(an_order("1"))
        assert saga.result.shipment == "1"  # made up: the key, for each text
        shop.answers(ScheduleShipment, Booking("C-9"))
        assert shop.send(an_order("2")).result.shipment == "C-9"
        shop.reject_next(ReserveStock, "none left")
        refused = shop.send(an_order("3"))
        assert refused.undone == ["VoidPayment", "fail_order"]
        assert shop.handled(VoidPayment) == [VoidPayment(order_id="3")]
        shop.crash_at("after commit", AuthorizePayment)
        late = shop.send(an_order("4"))
        shop.run()
        assert late.state == "completed"


def test_only_a_stand_in_answers_what_the_test_says() -> None:
    with (
        simulated(payments, stand_ins=True) as shop,
        pytest.raises(ConfigError, match="VoidPayment is answered by its own participant"),
    ):
        shop.answers(VoidPayment, None)


def test_nothing_to_host_is_an_error() -> None:
    with pytest.raises(ConfigError, match="needs participants"):
        simulated()


def failure_of(test: Callable[[Simulation], object], *participants: Participant) -> str:
    """What a test is told that fails."""
    with pytest.raises(AssertionError) as caught, simulated(*participants) as shop:
        test(shop)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_what_was_asked_for_and_never_came_fails_the_test() -> None:
    said = failure_of(lambda shop: shop.fail_next(VoidPayment), *SHOP)
    assert said.startswith("fail_next(VoidPayment): asked for, and never came")


def test_an_outside_that_is_never_called_is_told_with_those_that_are() -> None:
    def test(shop: Simulation) -> None:
        shop.outside("bok").fails()
        shop.send(an_order())

    said = failure_of(test, *SHOP)
    assert said.startswith("outside('bok').fails(): asked for, and never came")
    assert "(calls to the outside: book, mail)" in said


def test_a_letter_that_the_test_neither_caused_nor_looked_at_fails_it() -> None:
    capture = CapturePayment(order_id="nobody")
    said = failure_of(lambda shop: shop.send(capture), payments)
    assert said.startswith("payments/d-1, CapturePayment nobody, is a dead letter")
    assert "Unrecoverable: nothing is held for order nobody" in said
    with simulated(payments) as shop:
        shop.send(capture)
        assert [letter.type for letter in shop.letters()] == ["CapturePayment"]


def test_a_failed_assertion_is_told_with_all_that_happened() -> None:
    def test(shop: Simulation) -> None:
        assert shop.send(an_order()).state == "compensated"

    assert "reads AuthorizePayment 1" in failure_of(test, *SHOP)


def test_nothing_is_checked_where_the_test_does_not_want_it() -> None:
    with simulated(payments, checks=False) as shop:
        shop.poison(VoidPayment)
        shop.send(CapturePayment(order_id="nobody"))


def test_after_its_end_a_simulation_says_so() -> None:
    with simulated(payments) as shop:
        paid = shop.send(AuthorizePayment(order_id="1", cents=5))
    with pytest.raises(AssertionError, match="has ended: ask within its with block"):
        repr(paid.state)
    with pytest.raises(AssertionError, match="has ended: ask within its with block"):
        shop.send(VoidPayment(order_id="1"))
