"""Groups of steps hold through any single failure, and any order of their answers."""

from __future__ import annotations

from outboxd import Command, Participant, Rejected, Saga, Tx, plugins
from outboxd.prove import report, session
from outboxd.prove.session import Proof
from outboxd.registry import Registry


def prove(registry: Registry, faults: int = 1) -> Proof:
    proof = session.prove(
        registry,
        settings=session.Settings(faults=faults, random_s=60.0, random_runs=60, instances=2),
    )
    assert proof.found is None, "\n".join(report.violation(proof.found))
    return proof


def test_the_example_of_parallel_steps_holds() -> None:
    proof = prove(Registry(plugins.load(["examples/quotes"])))
    assert proof.parts[0].tally.covered > 100


class Try(Command[int], to="left", key="id", timeout="20s"):
    id: str


class TryToo(Command[int], to="right", key="id", timeout="20s"):
    id: str


class Begin(Command[str], to="desk", key="id"):
    id: str


def test_a_group_that_waits_for_all_of_its_failures_ends() -> None:
    """Past a failure the others are awaited; the saga goes on with what it catches."""
    left, right, desk = Participant("left"), Participant("right"), Participant("desk")

    @left.handle
    def try_left(tx: Tx, cmd: Try) -> int:
        return 1

    @right.handle
    def try_right(tx: Tx, cmd: TryToo) -> int:
        return 2

    @desk.saga
    async def begin(saga: Saga, cmd: Begin) -> str:
        try:
            one, two = await saga.all(
                saga.call(Try(id=cmd.id)), saga.call(TryToo(id=cmd.id)), on_error="wait"
            )
        except Rejected as no:
            await saga.race(saga.sleep("1m"), saga.sleep("2m"))
            return f"no: {no.command}"
        return f"{one + two}"

    desk.example(Begin(id="1"))
    prove(Registry([left, right, desk]))


def test_past_the_point_of_no_return_every_branch_is_repeated() -> None:
    left, right, desk = Participant("left"), Participant("right"), Participant("desk")

    @left.handle
    def try_left(tx: Tx, cmd: Try) -> int:
        return 1

    @right.handle
    def try_right(tx: Tx, cmd: TryToo) -> int:
        return 2

    @desk.saga
    async def begin(saga: Saga, cmd: Begin) -> str:
        saga.point_of_no_return()
        await saga.all(saga.call(Try(id=cmd.id)), saga.call(TryToo(id=cmd.id)))
        return "done"

    desk.example(Begin(id="1"))
    prove(Registry([left, right, desk]))
