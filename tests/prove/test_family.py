"""Sagas that start sagas hold whatever goes wrong, as far as it is explored here."""

from __future__ import annotations

from typing import Any

import pytest

from outboxd.children import Children
from outboxd.message import Message
from outboxd.prove import report, session
from outboxd.registry import Registry
from tests.prove import family

PLAN, LATER = family.Plan(id="1"), family.Later(id="1")


def proved(start: Message, **settings: Any) -> session.Proof:
    chosen = session.Settings(**{"faults": 1, "random_runs": 0, **settings})
    return session.prove(Registry(family.CAST), [start], chosen)


@pytest.mark.parametrize("start", [PLAN, LATER], ids=["called", "started"])
def test_a_child_is_never_left_behind_by_one_failure(start: Message) -> None:
    proof = proved(start)
    assert proof.found is None, "\n".join(report.violation(proof.found))
    assert proof.parts[0].tally.is_complete
    assert proof.parts[0].tally.covered > 50


@pytest.mark.parametrize("seed", [7, 8, 9])
@pytest.mark.parametrize("start", [PLAN, LATER], ids=["called", "started"])
def test_nor_by_several_at_random(start: Message, seed: int) -> None:
    proof = proved(start, faults=0, random_s=60.0, random_runs=40, seed=seed)
    assert proof.found is None, "\n".join(report.violation(proof.found))
    assert proof.parts[-1].tally.random == 40


def test_an_undo_that_did_not_wait_for_its_child_would_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Children, "stop", lambda *_: False)
    monkeypatch.setattr(Children, "must_wait", lambda *_: False)
    assert proved(PLAN).found is not None
