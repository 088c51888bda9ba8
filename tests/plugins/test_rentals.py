"""The example of a child saga, a moment, a schedule and an older version of a message."""

from __future__ import annotations

import pytest

from examples.rentals.rentals import Rent, bikes, till
from outboxd.message import decode_version
from outboxd.prove import report, session
from outboxd.registry import Registry
from outboxd.testing import simulated


def test_a_bike_is_out_until_its_time_is_over_and_is_counted() -> None:
    with simulated(bikes, till) as sim:
        rent = sim.send(Rent(id="1", seconds=25))
        sim.advance("20s")
        assert sim.rows("bikes", "SELECT id FROM bike_out") == [("1",)]
        assert [n for (n,) in sim.rows("bikes", "SELECT bikes FROM seen_out")] == [1, 1]
        sim.advance("20s")
        assert (rent.state, rent.result) == ("completed", "back, deposit of 5000 cents")
        assert [n for (n,) in sim.rows("bikes", "SELECT bikes FROM seen_out")] == [1, 1, 0, 0]


@pytest.mark.parametrize("after", ["0s", "10s"], ids=["deposit under way", "deposit held"])
def test_a_cancelled_rental_takes_its_deposit_back(after: str) -> None:
    with simulated(bikes, till) as sim:
        rent = sim.send(Rent(id="1", seconds=60))
        sim.advance(after)
        sim.cancel(rent)
        assert rent.state == "cancelled"
        assert sim.rows("till", "SELECT id FROM held") == []


def test_a_rental_of_the_older_version_has_minutes() -> None:
    assert decode_version(b'{"id": "1", "minutes": 2}', 1, Rent) == Rent(id="1", seconds=120)


def test_it_holds_with_one_failure_anywhere() -> None:
    proof = session.prove(
        Registry([bikes, till]), settings=session.Settings(faults=1, random_s=0.0)
    )
    assert proof.found is None, "\n".join(report.violation(proof.found))
    assert proof.parts[0].tally.is_complete
