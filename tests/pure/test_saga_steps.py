"""The saga driver: what the code asks for, what it gets back, and what is to undo in the end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from outboxd.errors import (
    CallFailed,
    Cancelled,
    Rejected,
    SagaEnd,
    SagaFailed,
    SagaMisuse,
    TimedOut,
)
from outboxd.instance import Instance, Returned, Unwound
from outboxd.message import Command
from outboxd.saga import DEFAULT_TIMEOUT_S, Call, Publish, Run, Saga, Send, Sleep, Step, where
from outboxd.tx import Tx
from tests.factories import AT, Paid, Pay, PlaceOrder, Reserve, Unreserve, Void, instance_of

ORDER = PlaceOrder()


def create(tx: Tx, order: PlaceOrder) -> str:
    return order.order_id


def forget(tx: Tx, order_id: str) -> None:
    tx.execute("DELETE FROM basket WHERE order_id = ?", (order_id,))


async def fulfil(saga: Saga, order: PlaceOrder) -> str:
    """One of each kind of step."""
    created = await saga.run(create, order)
    paid = await saga.call(Pay(order_id=created), undo=Void(order_id=created))
    await saga.sleep("5m")
    await saga.send(Reserve(amount=2), delay="10s")
    await saga.publish(Paid(cents=paid.cents))
    return f"{created}:{paid.cents}"


def test_a_saga_asks_for_one_step_after_another_until_it_returns() -> None:
    instance = instance_of(fulfil)
    answers = ("o-1", Paid(cents=7), None, None, None)
    *asked, end = [instance.start(AT), *(instance.resume(AT, value) for value in answers)]
    assert end == Returned("o-1:7")
    assert [(s.pos, s.kind, s.name) for s in asked if isinstance(s, Step)] == [
        (1, "run", "create"),
        (2, "call", "Pay"),
        (3, "sleep", "300s"),
        (4, "send", "Reserve"),
        (5, "publish", "Paid"),
    ]
    assert [s.action for s in asked if isinstance(s, Step)] == [
        Run(create, (ORDER,), {}),
        Call(Pay(), Void(), 30.0, "hold", False),
        Sleep(300.0),
        Send(Reserve(amount=2), 10.0),
        Publish(Paid(cents=7)),
    ]


def test_an_instance_knows_the_step_it_waits_for() -> None:
    instance = instance_of(fulfil)
    seen = [instance.waiting]
    moved = [instance.start(AT)]
    for value in ("o-1", Paid(), None, None, None):
        seen.append(instance.waiting)
        moved.append(instance.resume(AT, value))
    seen.append(instance.waiting)
    assert seen == [None, *moved[:-1], None]


def test_a_saga_may_end_without_a_step() -> None:
    async def idle(saga: Saga, order: PlaceOrder) -> str:
        return saga.key

    assert instance_of(idle).start(AT) == Returned("o-1")


def test_a_run_keeps_positional_and_named_arguments() -> None:
    def note(tx: Tx, text: str, *, level: int) -> None: ...

    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.run(note, "hello", level=3)

    step = instance_of(code).start(AT)
    assert isinstance(step, Step)
    assert step.action == Run(note, ("hello",), {"level": 3})


def test_a_function_without_a_name_is_shown_as_it_is() -> None:
    class Nameless:
        def __call__(self, tx: Tx) -> None: ...
        def __repr__(self) -> str:
            return "<nameless>"

    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.run(Nameless())

    step = instance_of(code).start(AT)
    assert isinstance(step, Step)
    assert step.name == "<nameless>"


@pytest.mark.parametrize(
    ("command", "timeout", "expected"),
    [
        (Pay(), None, 30.0),
        (Pay(), "2m", 120.0),
        (Pay(), 1.5, 1.5),
        (Pay(), 0, 0.0),
        (Void(), None, DEFAULT_TIMEOUT_S),
    ],
)
def test_the_call_the_command_and_a_minute_say_how_long_to_wait(
    command: Command[Any], timeout: str | float | None, expected: float
) -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.call(command, timeout=timeout, on_dead="fail", strict=True)

    step = instance_of(code).start(AT)
    assert isinstance(step, Step)
    assert step.action == Call(command, None, expected, "fail", True)


@pytest.mark.parametrize("undo", [Void(order_id="o-2"), Unreserve(order_id="o-1")])
def test_an_undo_in_another_lane_is_refused_before_anything_is_sent(undo: Command[Any]) -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.call(Pay(order_id="o-1"), undo=undo)

    with pytest.raises(SagaMisuse, match="must have the owner and key of Pay"):
        instance_of(code).start(AT)


def test_equal_steps_have_equal_marks_and_others_have_not() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.call(Pay(cents=1))
        await saga.call(Pay(cents=1))
        await saga.call(Pay(cents=2))
        await saga.sleep(1)
        await saga.sleep(2)

    instance = instance_of(code)
    marks = [instance.start(AT)] + [instance.resume(AT, None) for _ in range(4)]
    first, same, *others = [step.mark for step in marks if isinstance(step, Step)]
    assert first == same
    assert len({first, *others}) == 4


# Time and ids.


def test_now_is_the_time_of_the_message_that_moved_the_saga() -> None:
    seen: list[datetime] = []

    async def code(saga: Saga, order: PlaceOrder) -> None:
        seen.append(saga.now())
        await saga.sleep(1)
        seen.append(saga.now())

    instance = instance_of(code)
    instance.start(AT)
    instance.resume(AT + 60, None)
    assert [(at.timestamp(), at.tzinfo) for at in seen] == [(AT, UTC), (AT + 60, UTC)]


def test_ids_are_new_each_time_and_the_same_for_the_same_saga() -> None:
    def three(saga_id: str) -> list[str]:
        saga = Saga(saga_id, "o-1")
        return [str(saga.uuid()) for _ in range(3)]

    assert len(set(three("a"))) == 3
    assert three("a") == three("a")
    assert not set(three("a")) & set(three("b"))


def test_a_saga_knows_its_id_key_and_version() -> None:
    saga = Saga("orders/fulfil/o-1", "o-1", version=3)
    assert (saga.id, saga.key, saga.version) == ("orders/fulfil/o-1", "o-1", 3)
    assert Saga("x", "y").version == 1


# The undo stack.


async def two_calls(saga: Saga, order: PlaceOrder) -> str:
    await saga.call(Pay(), undo=Void())
    await saga.call(Reserve(), undo=Unreserve())
    return "done"


def positions(instance: Instance) -> list[int]:
    return [undo.pos for undo in instance.undos]


def test_the_undo_of_an_answered_call_is_kept_oldest_first() -> None:
    instance = instance_of(two_calls)
    instance.start(AT)
    assert positions(instance) == []
    instance.resume(AT, Paid())
    assert positions(instance) == [1]
    instance.resume(AT, None)
    assert positions(instance) == [1, 2]
    assert [undo.step.undo for undo in instance.undos if undo.step] == [Void(), Unreserve()]


def test_a_rejected_call_has_nothing_to_undo() -> None:
    instance = instance_of(two_calls)
    instance.start(AT)
    end = instance.throw(AT, Rejected("no", "Pay"), may_have_run=False)
    assert isinstance(end, Unwound)
    assert positions(instance) == []


@pytest.mark.parametrize("error", [TimedOut("Pay", 30), CallFailed("d-1", "Pay"), Cancelled()])
def test_a_call_of_unknown_outcome_is_undone(error: SagaEnd) -> None:
    instance = instance_of(two_calls)
    instance.start(AT)
    assert instance.throw(AT, error, may_have_run=True) == Unwound(error)
    assert positions(instance) == [1]


def test_a_call_of_unknown_outcome_is_closed_even_if_it_has_no_undo() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.call(Pay())

    instance = instance_of(code)
    instance.start(AT)
    instance.throw(AT, TimedOut("Pay", 30), may_have_run=True)
    (closing,) = instance.undos
    assert closing.step is not None
    assert closing.step.undo is None


def test_an_answered_call_without_undo_leaves_nothing_to_do() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.call(Pay())

    instance = instance_of(code)
    instance.start(AT)
    instance.resume(AT, Paid())
    assert instance.undos == []


def test_a_caught_timeout_is_undone_all_the_same() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> str:
        try:
            await saga.call(Pay(), undo=Void())
        except TimedOut as err:
            return f"without {err.command}"
        return "with"

    instance = instance_of(code)
    instance.start(AT)
    assert instance.throw(AT, TimedOut("Pay", 30), may_have_run=True) == Returned("without Pay")
    assert positions(instance) == [1]


def test_only_calls_are_undone() -> None:
    instance = instance_of(fulfil)
    instance.start(AT)
    instance.throw(AT, Cancelled(), may_have_run=True)
    assert instance.undos == []


def test_a_local_undo_has_a_position_of_its_own_between_the_steps() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.call(Pay(), undo=Void())
        saga.undo(forget, order.order_id)
        await saga.call(Reserve(), undo=Unreserve())

    instance = instance_of(code)
    instance.start(AT)
    instance.resume(AT, Paid())
    instance.resume(AT, None)
    assert positions(instance) == [1, 2, 3]
    local = instance.undos[1]
    assert (local.step, local.fn, local.args) == (None, forget, ("o-1",))


def test_a_local_undo_takes_positional_arguments_only() -> None:
    with pytest.raises(SagaMisuse, match="positional"):
        Saga("x", "y").undo(forget, order_id="o-1")


def test_after_the_point_of_no_return_a_saga_goes_only_forward() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.call(Pay())
        saga.point_of_no_return()
        await saga.call(Reserve())

    instance = instance_of(code)
    instance.start(AT)
    assert not instance.saga.is_forward_only
    instance.resume(AT, Paid())
    assert instance.saga.is_forward_only


# How it ends.


def test_fail_unwinds_with_its_reason() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        saga.fail("sold out")

    end = instance_of(code).start(AT)
    assert isinstance(end, Unwound)
    assert isinstance(end.error, SagaFailed)
    assert end.error.reason == "sold out"


def test_any_other_exception_is_a_bug_and_leaves_the_driver() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        await saga.sleep(1)
        raise KeyError("oops")

    instance = instance_of(code)
    instance.start(AT)
    with pytest.raises(KeyError, match="oops") as caught:
        instance.resume(AT, None)
    assert instance.waiting is None
    assert 'raise KeyError("oops")' in where(caught.value)


def test_a_runtime_error_of_the_code_stays_what_it_is() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        raise RuntimeError("the shop is closed")

    with pytest.raises(RuntimeError, match="the shop is closed"):
        instance_of(code).start(AT)


def test_a_saga_that_turns_one_end_into_another_unwinds_with_the_other() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        try:
            await saga.call(Pay())
        except Rejected:
            saga.fail("no money")

    instance = instance_of(code)
    instance.start(AT)
    end = instance.throw(AT, Rejected("no"), may_have_run=False)
    assert isinstance(end, Unwound)
    assert str(end.error) == "no money"
