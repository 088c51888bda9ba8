"""Replay: a journal rebuilds its saga at any point, or shows where the code has changed."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from outboxd.errors import (
    CallFailed,
    Cancelled,
    CodeChanged,
    Rejected,
    SagaEnd,
    SagaFailed,
    TimedOut,
)
from outboxd.instance import Instance, Moved, Returned, Unwound
from outboxd.saga import Call, Recorded, Saga, Step, check, replay
from outboxd.tx import Tx
from tests.factories import AT, Paid, Pay, PlaceOrder, Reserve, Unreserve, Void, instance_of

# A saga that carries out a program: what it does depends on the answers, as in a real one.


class Op(msgspec.Struct, frozen=True):
    """One line of the program; ``number`` goes into what it asks for."""

    kind: Literal["pay", "reserve", "run", "sleep", "send", "publish", "undo", "forward", "fail"]
    number: int
    has_undo: bool
    catches: bool
    only_if_even: bool


def work(tx: Tx, number: int) -> None: ...


async def carry_out(saga: Saga, order: PlaceOrder, program: list[Op]) -> tuple[int, list[str]]:
    total, trail = 0, [saga.now().isoformat()]
    for op in program:
        if op.only_if_even and total % 2:
            continue
        try:
            answer = await one_line(saga, op, total)
        except SagaEnd as err:
            if not op.catches:
                raise
            answer = len(str(err))
        total += answer or 0
        trail.append(f"{saga.now().isoformat()} {saga.uuid()}")
    return total, trail


async def one_line(saga: Saga, op: Op, total: int) -> int | None:
    amount = op.number + total
    match op.kind:
        case "pay":
            undo = Void(order_id="a") if op.has_undo else None
            return (await saga.call(Pay(order_id="a", cents=amount), undo=undo)).cents
        case "reserve":
            release = Unreserve(order_id=str(saga.uuid())) if op.has_undo else None
            key = release.order_id if release else "b"
            await saga.call(Reserve(order_id=key, amount=amount), undo=release)
        case "run":
            await saga.run(work, amount)
        case "sleep":
            await saga.sleep(amount % 1000)
        case "send":
            await saga.send(Reserve(amount=amount))
        case "publish":
            await saga.publish(Paid(cents=amount))
        case "undo":
            saga.undo(work, amount)
        case "forward":
            saga.point_of_no_return()
        case "fail":
            saga.fail(f"at {amount}")
    return None


def play(program: list[Op]) -> Instance:
    async def code(saga: Saga, order: PlaceOrder) -> Any:
        return await carry_out(saga, order, program)

    return instance_of(code)


ops = st.builds(
    Op,
    kind=st.sampled_from(["pay", "pay", "reserve", "run", "sleep", "send", "publish", "undo"])
    | st.sampled_from(["forward", "fail"]),
    number=st.integers(0, 50),
    has_undo=st.booleans(),
    catches=st.booleans(),
    only_if_even=st.booleans(),
)
programs = st.lists(ops, max_size=12)
ends: st.SearchStrategy[tuple[SagaEnd, bool] | None] = st.sampled_from(
    [
        None,
        None,
        None,
        (Rejected("no", "Pay"), False),
        (TimedOut("Pay", 30), True),
        (CallFailed("d-1", "Pay"), True),
        (Cancelled("stop"), True),
    ]
)


class Life:
    """A saga that was played to its end, or to where no more answers came."""

    def __init__(self, data: st.DataObject, program: list[Op]) -> None:
        self.instance = play(program)
        self.journal: list[Recorded] = []
        self.images: list[tuple[Any, ...]] = []
        at = AT
        moved = self.instance.start(at)
        self.images.append(image(self.instance, moved))
        while isinstance(moved, Step):
            at += data.draw(st.integers(0, 100))
            record = self._answer(data, moved, at)
            self.journal.append(record)
            if record.error is not None:
                moved = self.instance.throw(at, record.error, may_have_run=record.may_have_run)
            else:
                moved = self.instance.resume(at, decode(moved, record))
            self.images.append(image(self.instance, moved))

    def _answer(self, data: st.DataObject, step: Step, at: float) -> Recorded:
        end = data.draw(ends) if isinstance(step.action, Call) else None
        value = data.draw(st.integers(0, 9)) if step.name == "Pay" else None
        error, may_have_run = end or (None, False)
        return Recorded(step.pos, step.kind, step.name, step.mark, at, value, error, may_have_run)


def decode(step: Step, record: Recorded) -> Any:
    """As the conductor does: a recorded value becomes the object that the code got."""
    return Paid(cents=record.value) if step.name == "Pay" else None


def image(instance: Instance, moved: Moved) -> tuple[Any, ...]:
    """All that anybody can see of an instance."""
    undos = [(undo.pos, undo.step, undo.fn, undo.args) for undo in instance.undos]
    shown = repr(moved.error) if isinstance(moved, Unwound) else moved
    return shown, undos, instance.saga.is_forward_only, instance.waiting


@given(st.data(), programs)
def test_every_prefix_of_a_journal_leads_to_the_same_next_step(
    data: st.DataObject, program: list[Op]
) -> None:
    life = Life(data, program)
    for length in range(len(life.journal) + 1):
        again = play(program)
        moved = replay(again, AT, life.journal[:length], decode)
        assert image(again, moved) == life.images[length]
        again.drop()


@given(st.data(), programs)
def test_a_saga_that_is_evicted_anywhere_goes_on_as_if_it_had_not_been(
    data: st.DataObject, program: list[Op]
) -> None:
    life = Life(data, program)
    cut = data.draw(st.integers(0, len(life.journal)))
    again = play(program)
    moved = replay(again, AT, life.journal[:cut], decode)
    for number, record in enumerate(life.journal[cut:], cut + 1):
        assert isinstance(moved, Step)
        if record.error is not None:
            moved = again.throw(record.at, record.error, may_have_run=record.may_have_run)
        else:
            moved = again.resume(record.at, decode(moved, record))
        assert image(again, moved) == life.images[number]


@given(st.data(), programs)
def test_the_undo_stack_holds_what_may_have_run_and_nothing_else(
    data: st.DataObject, program: list[Op]
) -> None:
    life = Life(data, program)
    wanted = [
        record.pos
        for record, (step, *_) in zip(life.journal, life.images, strict=False)
        if isinstance(step.action, Call)
        and (record.may_have_run or (record.error is None and step.action.undo is not None))
    ]
    undos = life.instance.undos
    assert [undo.pos for undo in undos if undo.step is not None] == wanted
    assert [undo.pos for undo in undos] == sorted({undo.pos for undo in undos})


@given(st.data(), programs)
def test_a_step_that_the_code_has_gained_shows(data: st.DataObject, program: list[Op]) -> None:
    life = Life(data, program)
    assume(life.journal)
    gained = Op("sleep", 9999, has_undo=False, catches=False, only_if_even=False)
    assert gained not in program
    with pytest.raises(CodeChanged) as changed:
        replay(play([gained, *program]), AT, life.journal, decode)
    assert changed.value.pos == life.journal[0].pos


@given(st.data(), programs)
def test_dropping_a_saga_anywhere_leaves_nothing_to_be_done(
    data: st.DataObject, program: list[Op]
) -> None:
    life = Life(data, program)
    cut = data.draw(st.integers(0, len(life.journal)))
    again = play(program)
    replay(again, AT, life.journal[:cut], decode)
    asked = len(again.saga.created)
    again.drop()
    assert len(again.saga.created) == asked


# Each kind of change, with the words that a person reads.


async def recorded_code(saga: Saga, order: PlaceOrder) -> str:
    await saga.run(work, 1)
    await saga.call(Pay(cents=5), undo=Void())
    await saga.sleep("1m")
    return "end"


def journal_of(code: Any, *values: Any) -> list[Recorded]:
    instance = instance_of(code)
    moved, journal = instance.start(AT), []
    for value in values:
        assert isinstance(moved, Step)
        journal.append(Recorded(moved.pos, moved.kind, moved.name, moved.mark, AT, value))
        moved = instance.resume(AT, value)
    return journal


def plainly(_: Step, record: Recorded) -> Any:
    return record.value


async def other_order(saga: Saga, order: PlaceOrder) -> None:
    await saga.call(Pay(cents=5), undo=Void())
    await saga.run(work, 1)


async def other_name(saga: Saga, order: PlaceOrder) -> None:
    await saga.run(work, 1)
    await saga.call(Reserve())


async def other_content(saga: Saga, order: PlaceOrder) -> None:
    await saga.run(work, 1)
    await saga.call(Pay(cents=6))


async def other_kind(saga: Saga, order: PlaceOrder) -> None:
    await saga.run(work, 1)
    await saga.send(Pay(cents=5))


async def other_span(saga: Saga, order: PlaceOrder) -> None:
    await saga.run(work, 1)
    await saga.call(Pay(cents=5))
    await saga.sleep("2m")


async def shorter(saga: Saga, order: PlaceOrder) -> None:
    await saga.run(work, 1)


async def failing(saga: Saga, order: PlaceOrder) -> None:
    await saga.run(work, 1)
    saga.fail("no more")


async def local_undo_before(saga: Saga, order: PlaceOrder) -> None:
    saga.undo(work, 1)
    await saga.run(work, 1)


@pytest.mark.parametrize(
    ("code", "pos", "recorded", "asked"),
    [
        (other_order, 1, "run work", "call Pay (step 1)"),
        (other_name, 2, "call Pay", "call Reserve (step 2)"),
        (
            other_content,
            2,
            "call Pay with other content",
            'call Pay {"order_id":"o-1","cents":6}',
        ),
        (other_kind, 2, "call Pay", "send Pay (step 2)"),
        (other_span, 3, "sleep 60s", "sleep 120s (step 3)"),
        (shorter, 2, "call Pay", "the end"),
        (failing, 2, "call Pay", "the end"),
        (local_undo_before, 1, "run work", "run work (step 2)"),
    ],
)
def test_changed_code_is_shown_beside_what_the_journal_has(
    code: Any, pos: int, recorded: str, asked: str
) -> None:
    journal = journal_of(recorded_code, None, Paid(), None)
    with pytest.raises(CodeChanged) as changed:
        replay(instance_of(code), AT, journal, plainly)
    assert (changed.value.pos, changed.value.recorded, changed.value.asked) == (
        pos,
        recorded,
        asked,
    )


async def longer(saga: Saga, order: PlaceOrder) -> None:
    await saga.run(work, 1)
    await saga.call(Pay(cents=5), undo=Void())
    await saga.sleep("1m")
    await saga.publish(Paid())


async def other_undo(saga: Saga, order: PlaceOrder) -> None:
    await saga.run(work, 2)
    await saga.call(Pay(cents=5), timeout="9m")
    await saga.sleep("1m")


@pytest.mark.parametrize("code", [longer, other_undo])
def test_what_is_added_behind_the_journal_or_beside_its_steps_fits(code: Any) -> None:
    journal = journal_of(recorded_code, None, Paid(), None)
    replay(instance_of(code), AT, journal, plainly)


def test_a_bug_that_shows_only_on_the_replay_is_a_bug() -> None:
    async def code(saga: Saga, order: PlaceOrder) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replay(instance_of(code), AT, journal_of(recorded_code, None), plainly)


def test_recorded_values_are_decoded_for_the_step_that_asked() -> None:
    asked: list[tuple[str, Any]] = []

    def decoding(step: Step, record: Recorded) -> Any:
        asked.append((step.name, record.value))
        return record.value

    journal = journal_of(recorded_code, "r", Paid(cents=9), None)
    assert replay(instance_of(recorded_code), AT, journal, decoding) == Returned("end")
    assert asked == [("work", "r"), ("Pay", Paid(cents=9)), ("60s", None)]


def test_a_recorded_failure_is_thrown_again() -> None:
    journal = journal_of(recorded_code, None, Paid())
    error = SagaFailed("d-1")
    failure = msgspec.structs.replace(journal[1], error=error, may_have_run=True)
    instance = instance_of(recorded_code)
    assert replay(instance, AT, [journal[0], failure], plainly) == Unwound(error)
    assert [undo.pos for undo in instance.undos] == [2]


def test_a_step_is_checked_alone_too() -> None:
    step = instance_of(recorded_code).start(AT)
    assert isinstance(step, Step)
    check(step, step.pos, step.kind, step.name, step.mark)
    with pytest.raises(CodeChanged, match="step 1: the journal has run work with other content"):
        check(step, step.pos, step.kind, step.name, step.mark + 1)
