"""The shipped plugins hold whatever goes wrong, as far as it is explored here."""

from __future__ import annotations

from outboxd import plugins
from outboxd.prove import report, session
from outboxd.registry import Registry


def test_the_shipped_plugins_hold_with_one_failure_anywhere() -> None:
    registry = Registry(plugins.load(["plugins"]))
    proof = session.prove(
        registry, settings=session.Settings(faults=1, random_s=60.0, random_runs=60, seed=7)
    )
    assert proof.found is None, "\n".join(report.violation(proof.found))
    alone, together, random = (part.tally for part in proof.parts)
    assert alone.is_complete
    assert alone.covered > 100
    assert together.is_complete
    assert together.covered > alone.covered
    assert random.random == 60
