"""Whoever is away for days: deadlines, undos and reports come as often as they should, and end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from outboxd.testing import Simulation, simulated
from tests.prove import tiny

BUY = tiny.Buy(order_id="1")


def calm(sim: Simulation) -> None: ...


def kill(sim: Simulation) -> None:
    sim.kill()


def lose(sim: Simulation) -> None:
    sim.lose_broker()


def test_an_undo_that_nobody_reads_is_reported_after_a_day_and_done_in_the_end() -> None:
    with simulated(*tiny.CAST) as sim:
        sim.away("bank", "3d")
        saga = sim.send(BUY)
        sim.advance("61s")
        assert (saga.state, saga.waits_for) == ("compensating", "undo Refund")
        sim.advance("24h")
        assert (saga.state, saga.reason) == ("stuck", "Refund was not answered for a day")
        sim.advance("2d")
        assert saga.state == "compensated"


@pytest.mark.parametrize("happens", [calm, kill, lose])
@pytest.mark.parametrize("who", ["shop", "bank"])
def test_an_absence_of_days_comes_to_its_end(
    who: str, happens: Callable[[Simulation], None]
) -> None:
    with simulated(*tiny.CAST) as sim:
        sim.away(who, "3d")
        saga = sim.send(BUY)
        happens(sim)
        sim.advance("25h")
        assert saga.state in ("running", "stuck")
        sim.advance("2d")
        assert saga.state in ("completed", "compensated")
