"""Several steps at once: results in program order, the first of them, and the rest dropped."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.errors import Cancelled, CodeChanged, Rejected, SagaEnd, SagaMisuse, TimedOut
from outboxd.instance import Instance, Moved, Returned, Steps, Unwound
from outboxd.saga import Recorded, Saga, Step, replay
from tests.factories import AT, Paid, Pay, PlaceOrder, Reserve, Unreserve, Void, instance_of


async def both(saga: Saga, order: PlaceOrder) -> list[Any]:
    paid, nothing = await saga.all(
        saga.call(Pay(), undo=Void()), saga.call(Reserve(), undo=Unreserve())
    )
    return [paid.cents, nothing]


async def patient(saga: Saga, order: PlaceOrder) -> list[Any]:
    return list(
        await saga.all(
            saga.call(Pay(), undo=Void()),
            saga.call(Reserve(), undo=Unreserve()),
            saga.sleep("1h"),
            on_error="wait",
        )
    )


async def first_of(saga: Saga, order: PlaceOrder) -> Any:
    return await saga.race(
        saga.call(Pay(), undo=Void()), saga.sleep("1h"), saga.call(Reserve(), undo=Unreserve())
    )


async def nested(saga: Saga, order: PlaceOrder) -> Any:
    calls = saga.all(saga.call(Pay(), undo=Void()), saga.call(Reserve()))
    return await saga.race(calls, saga.sleep("1h"))


def opened(moved: Moved) -> list[tuple[int, str]]:
    assert isinstance(moved, Steps)
    return [(step.pos, step.name) for step in moved.steps]


def positions(instance: Instance) -> list[int]:
    return [undo.pos for undo in instance.undos]


def dropped(instance: Instance) -> list[int]:
    return [step.pos for step in instance.dropped]


def test_steps_side_by_side_begin_together_in_program_order() -> None:
    assert opened(instance_of(both).start(AT)) == [(1, "Pay"), (2, "Reserve")]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_results_are_in_program_order_and_undos_in_order_of_completion(
    order: tuple[int, int],
) -> None:
    instance = instance_of(both)
    instance.start(AT)
    answers = {1: Paid(cents=7), 2: None}
    assert instance.resume(AT, answers[order[0]], pos=order[0]) == Steps()
    assert instance.resume(AT, answers[order[1]], pos=order[1]) == Returned([7, None])
    assert positions(instance) == list(order)


def test_the_first_error_drops_the_others() -> None:
    instance = instance_of(both)
    instance.start(AT)
    no = Rejected("no", "Reserve")
    assert instance.throw(AT, no, may_have_run=False, pos=2) == Unwound(no)
    assert dropped(instance) == [1]
    (undo,) = instance.undos
    assert (undo.pos, undo.was_done) == (1, False)
    assert instance.open == {}


def test_with_wait_an_error_is_raised_once_all_have_ended() -> None:
    instance = instance_of(patient)
    instance.start(AT)
    no, late = Rejected("no", "Reserve"), TimedOut("Pay", 30)
    assert instance.throw(AT, no, may_have_run=False, pos=2) == Steps()
    assert instance.throw(AT, late, may_have_run=True, pos=1) == Steps()
    assert instance.resume(AT, None, pos=3) == Unwound(no)
    assert dropped(instance) == []
    assert positions(instance) == [1]


def test_the_first_of_a_race_wins_and_the_others_are_dropped() -> None:
    instance = instance_of(first_of)
    assert opened(instance.start(AT)) == [(1, "Pay"), (2, "3600s"), (3, "Reserve")]
    assert instance.resume(AT, None, pos=3) == Returned((2, None))
    assert dropped(instance) == [1, 2]
    assert positions(instance) == [3, 1]


def test_a_race_fails_with_its_first_failure() -> None:
    instance = instance_of(first_of)
    instance.start(AT)
    no = Rejected("no", "Pay")
    assert instance.throw(AT, no, may_have_run=False, pos=1) == Unwound(no)
    assert positions(instance) == [3]


def test_a_race_that_waits_fails_only_if_nothing_succeeds() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> Any:
        return await saga.race(saga.call(Pay()), saga.call(Reserve()), on_error="wait")

    first, second = Rejected("no", "Pay"), Rejected("nor this", "Reserve")
    instance = instance_of(code)
    instance.start(AT)
    assert instance.throw(AT, first, may_have_run=False, pos=1) == Steps()
    assert instance.resume(AT, None, pos=2) == Returned((1, None))
    instance = instance_of(code)
    instance.start(AT)
    instance.throw(AT, second, may_have_run=False, pos=2)
    assert instance.throw(AT, first, may_have_run=False, pos=1) == Unwound(second)


def test_groups_stand_beside_others() -> None:
    instance = instance_of(nested)
    assert opened(instance.start(AT)) == [(1, "Pay"), (2, "Reserve"), (3, "3600s")]
    assert instance.resume(AT, Paid(), pos=1) == Steps()
    assert instance.resume(AT, None, pos=3) == Returned((1, None))
    assert dropped(instance) == [2]
    instance = instance_of(nested)
    instance.start(AT)
    instance.resume(AT, None, pos=2)
    assert instance.resume(AT, Paid(), pos=1) == Returned((0, (Paid(), None)))
    assert dropped(instance) == [3]


def test_a_cancel_ends_all_that_is_waited_for() -> None:
    instance = instance_of(patient)
    instance.start(AT)
    instance.resume(AT, None, pos=2)
    error = Cancelled("the customer left")
    assert instance.cancel(AT, error) == Unwound(error)
    assert dropped(instance) == [1, 3]
    assert positions(instance) == [2, 1]


def test_the_code_goes_on_after_a_race() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> str:
        match await saga.race(saga.call(Pay()), saga.sleep(5)):
            case (0, paid):
                return f"paid {paid.cents}"
            case _:
                await saga.call(Reserve())
                return "reserved"

    instance = instance_of(code)
    instance.start(AT)
    step = instance.resume(AT, None, pos=2)
    assert isinstance(step, Step)
    assert (step.pos, step.name) == (3, "Reserve")
    assert instance.resume(AT, None) == Returned("reserved")


def test_nothing_to_wait_for_is_an_empty_result() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> Any:
        return await saga.all(*[saga.sleep(1) for _ in range(0)])

    assert instance_of(code).start(AT) == Returned(())


async def run_beside(saga: Saga, order: PlaceOrder) -> None:
    await saga.all(saga.call(Pay()), saga.run(print, "x"))


async def stranger_beside(saga: Saga, order: PlaceOrder) -> None:
    async def stranger() -> None: ...

    await saga.race(saga.call(Pay()), stranger())


async def awaited_before(saga: Saga, order: PlaceOrder) -> None:
    pause = saga.sleep(1)
    await saga.all(pause, pause)


async def empty_race(saga: Saga, order: PlaceOrder) -> None:
    await saga.race()


async def forgotten(saga: Saga, order: PlaceOrder) -> None:
    saga.all(saga.sleep(1), saga.call(Pay()))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (run_beside, r"saga.run\(print\) is done at once: await it before saga.all"),
        (stranger_beside, "saga.race takes what the saga offers to wait for, not <coroutine"),
        (awaited_before, "one step was awaited twice"),
        (empty_race, "saga.race needs something to wait for"),
        (forgotten, r"saga.all\(saga.sleep\(1s\), saga.call\(Pay\)\) was created but never"),
    ],
)
def test_what_cannot_stand_side_by_side_says_why(code: Any, said: str) -> None:
    with pytest.raises(SagaMisuse, match=said):
        instance_of(code).start(AT)


# Replay.


def plainly(_: Step, record: Recorded) -> Any:
    return record.value


def record(step: Step, value: Any = None, error: SagaEnd | None = None) -> Recorded:
    ran = not isinstance(error, Rejected) and error is not None
    return Recorded(step.pos, step.kind, step.name, step.mark, AT, value, error, ran)


async def mixed(saga: Saga, order: PlaceOrder) -> list[str]:
    """Groups of three shapes, one after the other; how each ends is in the journal."""
    trail: list[str] = []
    for round_ in range(3):
        parts: list[Awaitable[Any]] = [
            saga.call(Pay(cents=round_), undo=Void()),
            saga.sleep(60 + round_),
            saga.call(Reserve(amount=round_), undo=Unreserve()),
        ]
        try:
            if round_ == 0:
                trail.append(f"{await saga.all(*parts, on_error='wait')}")
            elif round_ == 1:
                trail.append(f"{await saga.race(saga.all(*parts[:2]), parts[2])}")
            else:
                trail.append(f"{await saga.all(*parts)}")
        except SagaEnd as error:
            trail.append(f"{type(error).__name__} {error}")
        trail.append(str(saga.uuid()))
    return trail


ERRORS = st.sampled_from([None, None, None, Rejected("no", "x"), TimedOut("Pay", 30)])


@given(st.data())
def test_completions_in_any_order_replay_to_the_same_saga(data: st.DataObject) -> None:
    instance = instance_of(mixed)
    journal: list[Recorded] = []
    moved = instance.start(AT)
    while instance.open:
        pos = data.draw(st.sampled_from(sorted(instance.open)))
        step, error = instance.open[pos], data.draw(ERRORS)
        made = record(step, None, error if step.kind == "call" else None)
        journal.append(made)
        if made.error is None:
            moved = instance.resume(AT, None, pos=pos)
        else:
            moved = instance.throw(AT, made.error, may_have_run=made.may_have_run, pos=pos)
        again = instance_of(mixed)
        replayed = replay(again, AT, journal, plainly)
        assert again.open == instance.open
        assert again.undos == instance.undos
        assert isinstance(replayed, Returned) == isinstance(moved, Returned)
    assert replayed == moved


def test_a_journal_of_other_groups_does_not_fit() -> None:
    instance = instance_of(both)
    moved = instance.start(AT)
    assert isinstance(moved, Steps)
    journal = [record(moved.steps[1])]

    async def one_after_another(saga: Saga, order: PlaceOrder) -> None:
        await saga.call(Pay())
        await saga.call(Reserve())

    with pytest.raises(CodeChanged) as changed:
        replay(instance_of(one_after_another), AT, journal, plainly)
    assert (changed.value.pos, changed.value.recorded, changed.value.asked) == (
        2,
        "call Reserve",
        "call Pay (step 1)",
    )
