"""Lanes: one key, one at a time, in order; each rule alone. All rules at once: test_lanes_model."""

from __future__ import annotations

import pytest

from outboxd.lanes import HELD, RUNNING, WAITING, Lanes, Slot


def slot(n: int, lane: str = "a", *, due_at: float = 0.0, state: str = WAITING) -> Slot:
    return Slot(n, lane, state, due_at)


def suspect(n: int, lane: str = "a") -> Slot:
    return Slot(n, lane, WAITING, 0.0, is_suspect=True)


def lanes_of(*slots: Slot) -> Lanes:
    lanes = Lanes()
    for one in slots:
        lanes.add(one)
    return lanes


def test_an_empty_lane_is_free_and_one_with_a_row_is_not() -> None:
    lanes = lanes_of(slot(1))
    assert lanes.is_free("b")
    assert not lanes.is_free("a")
    assert not lanes.remove(1)
    assert lanes.is_free("a")


def test_only_the_first_row_of_a_lane_may_run() -> None:
    lanes = lanes_of(slot(1), slot(2), slot(3, "b"))
    assert lanes.due(0, 10) == [1, 3]


def test_a_row_behind_a_running_or_a_held_one_waits() -> None:
    lanes = lanes_of(slot(1, state=RUNNING), slot(2), slot(3, "b", state=HELD), slot(4, "b"))
    assert lanes.due(0, 10) == []
    assert lanes.next_due() is None


def test_the_next_row_may_run_once_the_first_is_gone() -> None:
    lanes = lanes_of(slot(1, state=RUNNING), slot(2), slot(3))
    assert lanes.remove(1)
    assert lanes.due(0, 10) == [2]


def test_a_row_in_the_middle_leaves_without_a_trace() -> None:
    lanes = lanes_of(slot(1), slot(2), slot(3))
    assert lanes.remove(2)
    assert lanes.remove(1)
    assert lanes.due(0, 10) == [3]


def test_what_is_due_comes_earliest_first_and_what_is_not_stays() -> None:
    lanes = lanes_of(slot(1, "a", due_at=3), slot(2, "b", due_at=1), slot(3, "c", due_at=9))
    assert lanes.due(5, 10) == [2, 1]
    assert lanes.due(9, 10) == [2, 1, 3]


def test_a_first_row_that_is_not_due_holds_up_its_lane() -> None:
    lanes = lanes_of(slot(1, due_at=100), slot(2, due_at=0))
    assert lanes.due(50, 10) == []
    assert lanes.next_due() == 100


def test_a_limit_leaves_the_later_ones_for_the_next_time() -> None:
    lanes = lanes_of(slot(1, "a", due_at=3), slot(2, "b", due_at=1), slot(3, "c", due_at=2))
    assert lanes.due(5, 2) == [2, 3]
    assert lanes.due(5, 0) == []


def test_a_long_lane_does_not_crowd_out_the_others() -> None:
    lanes = lanes_of(*(slot(n) for n in range(1, 6)), slot(6, "b"))
    assert lanes.due(0, 3) == [1, 6]


def test_asking_what_is_due_changes_nothing() -> None:
    lanes = lanes_of(slot(1), slot(2, "b"))
    assert lanes.due(0, 10) == lanes.due(0, 10) == [1, 2]


def test_a_row_that_failed_is_due_again_at_its_new_time() -> None:
    lanes = lanes_of(slot(1))
    lanes.change(1, RUNNING)
    assert lanes.due(0, 10) == []
    lanes.change(1, WAITING, due_at=30)
    assert lanes.next_due() == 30
    assert lanes.due(29, 10) == []
    assert lanes.due(30, 10) == [1]


def test_a_held_row_keeps_its_due_time_for_its_release() -> None:
    lanes = lanes_of(slot(1, due_at=7))
    lanes.change(1, HELD)
    assert lanes.next_due() is None
    lanes.change(1, WAITING)
    assert lanes.next_due() == 7


def test_an_undo_is_put_right_before_its_step() -> None:
    lanes = lanes_of(slot(1, state=RUNNING), slot(2), slot(3))
    lanes.add(slot(9), before=2)
    lanes.remove(2)
    lanes.remove(1)
    assert lanes.due(0, 10) == [9]
    lanes.remove(9)
    assert lanes.due(0, 10) == [3]


def test_an_undo_of_the_first_row_comes_first() -> None:
    lanes = lanes_of(slot(1, due_at=100), slot(2))
    lanes.add(slot(9), before=1)
    assert lanes.due(0, 10) == [9]


def test_an_undo_of_a_row_that_is_not_there_comes_last() -> None:
    lanes = lanes_of(slot(1), slot(2))
    lanes.add(slot(9), before=77)
    lanes.remove(1)
    lanes.remove(2)
    assert lanes.due(0, 10) == [9]


def test_a_suspect_is_not_due_with_the_others() -> None:
    lanes = lanes_of(suspect(1), slot(2, "b"))
    assert lanes.due(0, 10) == [2]
    assert lanes.next_due() == 0.0
    assert lanes_of(suspect(1)).next_due() is None


def test_suspects_come_one_at_a_time_in_the_order_of_their_numbers() -> None:
    lanes = lanes_of(suspect(2, "b"), suspect(1, "a"))
    assert lanes.suspect() == lanes.suspect() == 1
    lanes.change(1, RUNNING)
    assert lanes.suspect() == 2


def test_a_suspect_behind_another_row_waits_for_its_turn() -> None:
    lanes = lanes_of(slot(1, state=RUNNING), suspect(2))
    assert lanes.suspect() is None
    lanes.remove(1)
    assert lanes.suspect() == 2


def test_a_suspect_that_failed_is_a_row_like_any_other() -> None:
    lanes = lanes_of(suspect(1))
    lanes.change(1, RUNNING)
    lanes.clear_suspicion(1)
    lanes.change(1, WAITING, due_at=5)
    assert lanes.suspect() is None
    assert lanes.due(5, 10) == [1]


def test_a_suspect_that_is_gone_is_not_asked_for() -> None:
    lanes = lanes_of(suspect(1), suspect(2, "b"))
    lanes.remove(1)
    assert lanes.suspect() == 2


def test_rows_are_counted_by_state() -> None:
    lanes = lanes_of(slot(1), slot(2), slot(3, "b", state=HELD))
    lanes.change(1, RUNNING)
    assert [lanes.count(state) for state in (WAITING, RUNNING, HELD)] == [1, 1, 1]
    lanes.remove(1)
    assert [lanes.count(state) for state in (WAITING, RUNNING, HELD)] == [1, 0, 1]
    assert len(lanes) == 2
    assert 2 in lanes
    assert 1 not in lanes


def test_a_row_that_is_not_there_cannot_leave() -> None:
    with pytest.raises(KeyError):
        Lanes().remove(1)
