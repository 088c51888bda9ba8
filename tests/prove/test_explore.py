"""How schedules are gone through: the same again each time, and none is left out that matters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from outboxd.errors import ConfigError
from outboxd.message import Message
from outboxd.prove import image
from outboxd.prove.cast import Cast, examples_of
from outboxd.prove.choices import ORDER, Chance, Chooser, Plan, Planned
from outboxd.prove.explore import Explorer, Found
from outboxd.prove.oracles import Oracles
from outboxd.prove.session import copied
from outboxd.prove.world import World
from outboxd.registry import Registry
from tests.prove import errand, planting, tiny


@pytest.fixture
def cast() -> Iterator[Cast]:
    cast = Cast(Registry(tiny.CAST))
    yield cast
    cast.close()


def two(registry: Registry) -> list[Message]:
    """Two of each example."""
    return [copied(message, n) for message in examples_of(registry) for n in range(2)]


def told(cast: Cast, chooser: Chooser) -> list[str]:
    """The story of one run."""
    starts = [cast.start_of(message, at) for at, message in enumerate(two(cast.registry), 1)]
    with World(cast, starts, chooser) as world:
        world.run()
    return [f"{line.at} {line.who} {line.what}" for line in world.story]


def chance(seed: int, faults: int = 4) -> Chance:
    return Chance(seed, faults=faults, rate=0.2, disorder=0.25)


def test_one_seed_is_one_schedule_and_another_seed_is_another(cast: Cast) -> None:
    first, again, other = chance(7), chance(7), chance(8)
    assert told(cast, first) == told(cast, again)
    assert (first.taken, first.points) == (again.taken, again.points)
    told(cast, other)
    assert other.taken != first.taken


def test_what_was_drawn_is_a_plan_that_tells_the_same_story(cast: Cast) -> None:
    for seed in range(50):
        drawn = chance(seed)
        story = told(cast, drawn)
        planned = Planned(tuple(drawn.taken))
        assert told(cast, planned) == story
        assert planned.taken == drawn.taken


def test_chance_draws_no_more_failures_than_it_may_but_any_order(cast: Cast) -> None:
    orders = 0
    for seed in range(50):
        drawn = chance(seed, faults=2)
        told(cast, drawn)
        failures = [way for _, way in drawn.taken if not way.startswith(ORDER)]
        assert len(failures) <= 2
        orders += len(drawn.taken) - len(failures)
    assert orders > 50


def test_a_plan_that_does_not_fit_is_the_usual_course(cast: Cast) -> None:
    usual = told(cast, Planned(()))
    assert told(cast, Planned(((1, "no such way"), (10_000, "neither")))) == usual


def outcomes(cast: Cast, faults: int, patch: pytest.MonkeyPatch) -> set[object]:
    """All ends to which the schedules lead: what the tables hold, without times."""
    found: set[object] = set()
    right = Oracles.at_the_end

    def at_the_end(self: Oracles) -> None:
        right(self)
        shop, bank = self._world.nodes["shop"], self._world.nodes["bank"]
        found.add(
            (
                *shop.rows("SELECT state, reason FROM outboxd_saga"),
                *shop.rows("SELECT kind, pos, name FROM outboxd_journal ORDER BY n"),
                *bank.rows("SELECT order_id, 'charge' FROM charge"),
                *bank.rows("SELECT order_id, 'receipt' FROM receipt"),
                *bank.rows("SELECT id, state FROM outboxd_fence ORDER BY id"),
                *bank.rows("SELECT id, state, attempts FROM outboxd_dead ORDER BY n"),
            )
        )

    with patch.context() as within:
        within.setattr(Oracles, "at_the_end", at_the_end)
        assert Explorer(cast).systematic(examples_of(cast.registry), faults) is None
    return found


def test_leaving_out_equal_states_leaves_out_no_end(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = outcomes(cast, 2, monkeypatch)
    numbers = count()
    with monkeypatch.context() as patch:
        patch.setattr(image, "of", lambda world: next(numbers))
        everything = outcomes(cast, 2, patch)
    assert len(everything) > 15
    assert pruned == everything


@pytest.mark.parametrize("name", ["undo_without_step", "fresh_key", "counted_charges", "oversell"])
def test_leaving_out_equal_states_hides_no_violation(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = planting.wrong(planting.planted(name))
    cast = Cast(registry)
    pruned = Explorer(cast).systematic(two(registry)[: 2 if name == "oversell" else 1], 2)
    numbers = count()
    monkeypatch.setattr(image, "of", lambda world: next(numbers))
    found = Explorer(cast).systematic(two(registry)[: 2 if name == "oversell" else 1], 2)
    cast.close()
    assert pruned is not None
    assert found is not None
    assert pruned.rule == found.rule
    assert len(pruned.plan) == len(found.plan)


def run(cast: Cast, plan: Plan) -> Found | None:
    return Explorer(cast).follow(two(cast.registry), Planned(plan))


@pytest.mark.parametrize("name", ["retry_loop", "missing_undo", "undo_without_step", "fresh_key"])
def test_a_random_violation_is_made_as_short_as_its_rule_allows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = planting.wrong(planting.planted(name))
    cast = Cast(registry)
    drawn: list[Found] = []
    right = Explorer._shorter

    def shorter(self: Explorer, starts: object, found: Found) -> Found:
        drawn.append(found)
        return right(self, starts, found)  # type: ignore[arg-type]  # only handed through

    monkeypatch.setattr(Explorer, "_shorter", shorter)
    for seed in range(3):
        short = Explorer(cast).random(two(registry), seed, range(2_000))
        assert short is not None
        long = drawn.pop()
        assert short.rule == long.rule
        assert len(short.plan) <= len(long.plan)
        again = run(cast, short.plan)
        assert again is not None
        assert again.rule == short.rule
        assert again.story == short.story or name == "fresh_key"
        for step in short.plan:
            rest = run(cast, tuple(s for s in short.plan if s != step))
            assert rest is None or rest.rule != short.rule
    cast.close()


def test_several_processes_find_what_one_finds() -> None:
    registry = planting.wrong(planting.planted("undo_without_step"))
    cast = Cast(registry)
    alone = Explorer(cast).random(two(registry), 3, range(2_000))
    shared = Explorer(cast, jobs=2).random(two(registry), 3, range(2_000))
    cast.close()
    assert alone is not None
    assert shared is not None
    assert (alone.rule, alone.plan) == (shared.rule, shared.plan)


def test_an_exception_of_the_engine_is_a_violation_with_its_story(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, *args: object) -> None:
        raise ZeroDivisionError("a bug of outboxd")

    monkeypatch.setattr("outboxd.conductor.Conductor.on_reply", broken)
    monkeypatch.setattr("outboxd.failing.Failing.failed", broken)
    found = Explorer(cast).systematic(examples_of(cast.registry), 0)
    assert found is not None
    assert found.rule == "shop: outboxd itself failed"
    assert found.details[-1] == "ZeroDivisionError: a bug of outboxd"
    assert found.story


def test_a_cast_gives_the_handlers_back_and_takes_only_what_somebody_starts() -> None:
    registry = Registry(errand.CAST)
    before = dict(registry.handlers)
    cast = Cast(registry)
    with pytest.raises(ConfigError, match="starts anything on Bought"):
        cast.start_of(tiny.Bought(order_id="o-1"), 1)
    cast.close()
    assert registry.handlers == before
