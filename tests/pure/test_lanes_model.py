"""Lanes against a model of lists: rows come, run, fail, are held, leave, in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outboxd.lanes import HELD, RUNNING, WAITING, Lanes, Slot

STATES = (WAITING, RUNNING, HELD)

lane_names = st.sampled_from(["a", "b", "c"])
due_times = st.integers(0, 8).map(float)
states_at_first = st.sampled_from([WAITING, WAITING, WAITING, RUNNING, HELD])
rarely = st.sampled_from([False, False, False, True])
limits = st.sampled_from([0, 1, 2, 2, 3, 100])
picks = st.integers(0, 1_000)


class LanesModel(RuleBasedStateMachine):
    """The model: each lane a list of rows; whatever may run is found by looking at all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.rows: dict[str, list[Slot]] = {}
        self.now = 0.0
        self.next_n = 1

    # The model's answers.

    def all_rows(self) -> list[Slot]:
        return [row for lane in self.rows.values() for row in lane]

    def ready(self, *, suspects: bool) -> list[Slot]:
        heads = [lane[0] for lane in self.rows.values()]
        return [row for row in heads if row.state == WAITING and row.is_suspect is suspects]

    def due(self, limit: int) -> list[int]:
        found = sorted((row.due_at, row.n) for row in self.ready(suspects=False))
        return [n for due_at, n in found if due_at <= self.now][:limit]

    def chosen(self, pick: int) -> Slot:
        rows = self.all_rows()
        return rows[pick % len(rows)]

    def has_rows(self) -> bool:
        return bool(self.rows)

    # What happens.

    def make(self, lane: str, state: str, due_at: float, is_suspect: bool) -> Slot:
        row = Slot(self.next_n, lane, state, due_at, is_suspect and state == WAITING)
        self.next_n += 1
        return row

    def copy(self, row: Slot) -> Slot:
        return Slot(row.n, row.lane, row.state, row.due_at, row.is_suspect)

    @rule(lane=lane_names, state=states_at_first, due_at=due_times, bad=rarely, n=st.integers(1, 3))
    def rows_come(self, lane: str, state: str, due_at: float, bad: bool, n: int) -> None:
        assert self.lanes.is_free(lane) is (lane not in self.rows)
        for _ in range(n):
            row = self.make(lane, state, due_at, bad)
            self.rows.setdefault(lane, []).append(row)
            self.lanes.add(self.copy(row))

    @precondition(has_rows)
    @rule(pick=picks, due_at=due_times)
    def an_undo_passes_its_step(self, pick: int, due_at: float) -> None:
        step = self.chosen(pick)
        row = self.make(step.lane, WAITING, due_at, False)
        lane = self.rows[step.lane]
        lane.insert(lane.index(step), row)
        self.lanes.add(self.copy(row), before=step.n)

    @precondition(has_rows)
    @rule(pick=picks)
    def a_row_leaves(self, pick: int) -> None:
        row = self.chosen(pick)
        lane = self.rows[row.lane]
        lane.remove(row)
        if not lane:
            del self.rows[row.lane]
        assert self.lanes.remove(row.n) is bool(lane)

    @precondition(has_rows)
    @rule(pick=picks, state=st.sampled_from([RUNNING, HELD]))
    def a_row_is_held_or_begun_by_hand(self, pick: int, state: str) -> None:
        row = self.chosen(pick)
        row.state = state
        self.lanes.change(row.n, state)

    @precondition(has_rows)
    @rule(pick=picks, due_at=due_times)
    def an_attempt_fails(self, pick: int, due_at: float) -> None:
        row = self.chosen(pick)
        row.state, row.due_at, row.is_suspect = WAITING, due_at, False
        self.lanes.clear_suspicion(row.n)
        self.lanes.change(row.n, WAITING, due_at)

    @rule(limit=limits)
    def what_is_due_runs(self, limit: int) -> None:
        wanted = self.due(limit)
        assert self.lanes.due(self.now, limit) == wanted
        for row in self.all_rows():
            if row.n in wanted:
                row.state = RUNNING
                self.lanes.change(row.n, RUNNING)

    @rule(limit=limits)
    def what_is_due_is_looked_at(self, limit: int) -> None:
        assert self.lanes.due(self.now, limit) == self.due(limit)

    @rule()
    def a_suspect_runs(self) -> None:
        wanted = min((row.n for row in self.ready(suspects=True)), default=None)
        assert self.lanes.suspect() == wanted
        for row in self.all_rows():
            if row.n == wanted:
                row.state = RUNNING
                self.lanes.change(row.n, RUNNING)

    @rule(by=st.integers(1, 4))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule(by=st.integers(1, 4))
    def the_wall_clock_jumps_back(self, by: int) -> None:
        self.now -= by

    @rule()
    def the_process_restarts(self) -> None:
        """The image is made anew from rows in the order of the model's lanes."""
        self.lanes = Lanes()
        for row in self.all_rows():
            self.lanes.add(self.copy(row))

    # What always holds.

    @initialize()
    def nothing_is_there(self) -> None:
        assert len(self.lanes) == 0
        assert self.lanes.next_due() is None
        assert self.lanes.suspect() is None

    @invariant()
    def rows_are_counted(self) -> None:
        rows = self.all_rows()
        assert len(self.lanes) == len(rows)
        assert all(row.n in self.lanes for row in rows)
        for state in STATES:
            assert self.lanes.count(state) == sum(row.state == state for row in rows)

    @invariant()
    def the_next_due_time_is_known(self) -> None:
        wanted = min((row.due_at for row in self.ready(suspects=False)), default=None)
        assert self.lanes.next_due() == wanted

    @invariant()
    def a_lane_is_free_when_it_is_empty(self) -> None:
        for lane in ("a", "b", "c"):
            assert self.lanes.is_free(lane) is (lane not in self.rows)

    @invariant()
    def nobody_overtakes_and_one_of_a_lane_runs(self) -> None:
        for n in self.lanes.due(float("inf"), 100):
            assert any(lane[0].n == n for lane in self.rows.values())


# A failure is made small before it is shown, which takes longer than the search.
TestLanesAgainstTheModel = pytest.mark.timeout(600)(LanesModel.TestCase)
