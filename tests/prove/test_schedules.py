"""Schedules in simulations: when they fire, how often, and that a proof explores what they meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from outboxd import Participant, Tx
from outboxd.batch import Batch
from outboxd.firing import Firing
from outboxd.prove import report, session
from outboxd.prove.cast import Cast
from outboxd.prove.choices import Planned
from outboxd.prove.explore import Explorer
from outboxd.registry import Registry
from outboxd.store import schedules
from outboxd.testing import Simulation, simulated
from tests.prove import ticking

REMIND = "the schedule remind"


@pytest.fixture
def clinic() -> Iterator[Simulation]:
    with simulated(*ticking.CAST) as clinic:
        yield clinic


def rounds(clinic: Simulation) -> list[str]:
    return [id for (id,) in clinic.rows("clinic", "SELECT id FROM round ORDER BY number")]


def numbered(*numbers: int) -> list[str]:
    return [f"clinic/every/remind#{n}" for n in numbers]


def test_a_schedule_fires_when_time_passes_as_often_as_it_is_due(clinic: Simulation) -> None:
    clinic.advance("89m")
    assert rounds(clinic) == []
    clinic.advance("1m")
    assert rounds(clinic) == numbered(1)
    clinic.advance("5h")
    assert rounds(clinic) == numbered(1, 2, 3, 4)


def test_a_run_rests_once_only_schedules_are_left(clinic: Simulation) -> None:
    before = clinic.now
    clinic.run()
    assert (clinic.now, rounds(clinic)) == (before, [])
    saga = clinic.send(ticking.Visit(id="1"))
    clinic.run()
    assert saga.result == "healed"
    assert rounds(clinic) == numbered(1), "on the way to the saga's end, and no further"
    assert clinic.sent(ticking.Tell) == [ticking.Tell(id="1")]


def test_what_a_schedule_sends_with_a_delay_comes_after_it(clinic: Simulation) -> None:
    clinic.send(ticking.Visit(id="1"))
    clinic.advance("99m")
    assert clinic.sent(ticking.Tell) == []
    clinic.advance("1m")
    assert clinic.handled(ticking.Tell) == [ticking.Tell(id="1")]


def test_a_firing_that_fails_is_tried_again(clinic: Simulation) -> None:
    clinic.fail_next("remind")
    clinic.advance("90m")
    assert rounds(clinic) == []
    clinic.advance("1m")
    assert rounds(clinic) == numbered(1)


def test_a_firing_whose_handler_is_broken_is_a_letter_and_holds_up_no_later_one(
    clinic: Simulation,
) -> None:
    clinic.poison("remind")
    clinic.advance("2h")
    (letter,) = clinic.letters()
    assert (letter.type, letter.message_id) == ("remind", *numbered(1))
    clinic.fix("remind")
    clinic.advance("1h")
    assert rounds(clinic) == numbered(2)
    clinic.replay(letter)
    assert rounds(clinic) == numbered(2, 1)


@pytest.mark.parametrize("point", ["before commit", "after commit"])
def test_a_process_killed_around_a_firing_fires_once(clinic: Simulation, point: Any) -> None:
    clinic.crash_at(point, "clinic")
    clinic.advance("90m")
    assert rounds(clinic) == numbered(1)
    clinic.kill()
    clinic.advance("90m")
    assert rounds(clinic) == numbered(1, 2)


def test_a_participant_that_was_never_needed_fires_all_the_same() -> None:
    lone = Participant("lone", schema="CREATE TABLE tick (n INTEGER PRIMARY KEY) STRICT;")

    @lone.every(cron="0 9 * * *", tz="Europe/Vienna")
    def tick(tx: Tx) -> None:
        tx.execute("INSERT INTO tick VALUES (NULL)")

    with simulated(lone) as sim:
        sim.advance("3d")
        assert sim.rows("lone", "SELECT COUNT(*) FROM tick") == [(3,)]


# Proofs.


def test_a_proof_fires_each_schedule_twice_and_explores_what_may_go_wrong_there() -> None:
    cast = Cast(Registry(ticking.CAST))
    usual = Planned(())
    assert Explorer(cast).follow([ticking.Visit(id="1")], usual) is None
    cast.close()
    whats = [point.what for point in usual.points]
    assert whats.count(f"clinic handles {REMIND}") == 2
    assert "clinic looks at its timers" in whats, "its commit may be refused, or kill the process"
    until = whats.index(f"clinic handles {REMIND}")
    early = "first: clinic fires its schedule remind"
    could = [point.what for point in usual.points if early in point.ways]
    assert could == [what for what in whats[:until] if what.startswith("what comes next")]


def test_sagas_beside_a_schedule_hold_whatever_goes_wrong() -> None:
    settings = session.Settings(faults=2, random_s=60.0, random_runs=60, seed=5)
    proof = session.prove(Registry(ticking.CAST), settings=settings)
    assert proof.found is None, "\n".join(report.violation(proof.found))
    assert all(part.tally.is_complete for part in proof.parts)


def test_schedules_are_explored_without_any_saga() -> None:
    broken = Participant("broken", schema="CREATE TABLE tick (n INTEGER PRIMARY KEY) STRICT;")

    @broken.every("1h")
    def tick(tx: Tx) -> None:
        tx.execute("INSERT INTO tick VALUES (NULL)")

    @broken.invariant("it ticks once")
    def once(db: Any) -> Iterator[str]:
        if db.value("SELECT COUNT(*) FROM tick") > 1:
            yield "it ticked again"

    proof = session.prove(Registry([broken]))
    assert proof.found is not None
    assert "it ticked again" in proof.found.details


def does_not_count(batch: Batch, row: schedules.Planned) -> None:
    """Fires under the same number again."""
    row.fired = 0


def says_nothing(batch: Batch, row: schedules.Planned) -> None:
    """Counts a firing that never was."""
    row.fired += 1


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (does_not_count, "handled one message twice"),
        (says_nothing, "a schedule fired, and nothing came of it"),
    ],
)
def test_a_firing_that_is_not_counted_rightly_is_found(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Batch, schedules.Planned], None], rule: str
) -> None:
    right = Firing.fire

    def fire(self: Firing, batch: Batch, tell_self: Any) -> None:
        right(self, batch, tell_self)
        for row in schedules.everything(batch.connection):
            if row.fired:
                spoil(batch, row)
                schedules.save(batch.connection, row)

    monkeypatch.setattr(Firing, "fire", fire)
    proof = session.prove(Registry(ticking.CAST), settings=session.Settings(faults=1, random_s=0.1))
    assert proof.found is not None
    assert rule in proof.found.rule
