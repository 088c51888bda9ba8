"""What runs side by side holds, whatever goes wrong: no loser stays, no message is lost."""

from __future__ import annotations

import pytest

from examples import approval
from outboxd.participant import Participant
from outboxd.prove import report, session
from outboxd.registry import Registry
from tests.prove import beside

OFFICE = [approval.expenses, approval.bank, approval.archive, approval.audit]


@pytest.mark.parametrize(
    ("cast", "covered"), [(beside.CAST, 100), (OFFICE, 20)], ids=["travel", "office"]
)
def test_all_race_and_receive_hold_with_one_failure_anywhere(
    cast: list[Participant], covered: int
) -> None:
    proof = session.prove(
        Registry(cast), settings=session.Settings(faults=1, random_s=60.0, random_runs=60, seed=7)
    )
    assert proof.found is None, "\n".join(report.violation(proof.found))
    alone = proof.parts[0].tally
    assert alone.is_complete
    assert alone.covered >= covered
