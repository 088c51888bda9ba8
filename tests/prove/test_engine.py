"""outboxd itself, under some hundreds of random schedules; ``--storm N``: N times that.

With ``--storm`` the seed is drawn, unless the environment's OUTBOXD_SEED names one.
A run that finds something prints its schedule; ``outboxd prove --seed S --from N`` goes on.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from types import ModuleType

import pytest

from outboxd.prove import report, session
from outboxd.prove.cast import Cast, examples_of
from outboxd.prove.explore import Explorer, undisturbed
from outboxd.registry import Registry
from tests.prove import errand, ticking, tiny

JOBS = 2


@pytest.mark.parametrize(
    ("module", "runs"),
    [(tiny, 600), (errand, 150), (ticking, 60)],
    ids=["tiny", "errand", "ticking"],
)
def test_it_holds_in_random_schedules(
    module: ModuleType, runs: int, storm: int, tell: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("OUTBOXD_SEED", 0 if storm == 1 else secrets.randbits(32)))
    registry = Registry(module.CAST)
    crowd = [session.copied(message, n) for message in examples_of(registry) for n in range(2)]
    cast = Cast(registry)
    explorer = Explorer(cast, jobs=JOBS)
    began = time.monotonic()
    with undisturbed():
        found = explorer.random(crowd, seed, range(runs * storm))
    cast.close()
    name, took_s = module.__name__.rpartition(".")[2], time.monotonic() - began
    ran = explorer.tally.random
    tell(f"prove {name}: {ran:,} random schedules of seed {seed} in {took_s:.0f} s")
    assert found is None, "\n".join([f"seed {seed}", *report.violation(found)])
    assert ran == runs * storm


def test_it_holds_with_two_failures_anywhere() -> None:
    proof = session.prove(
        Registry(tiny.CAST), settings=session.Settings(faults=2, random_s=0.0, jobs=JOBS)
    )
    assert proof.found is None, "\n".join(report.violation(proof.found))
    assert all(part.tally.is_complete for part in proof.parts)
    assert max(part.tally.covered for part in proof.parts) > 1_500
