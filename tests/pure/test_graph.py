"""The static graph: who takes what, what code names, and what does not fit together."""

from __future__ import annotations

import pytest

from outboxd.graph import Graph, as_mermaid, as_text, graph_of
from outboxd.message import Command, Event
from outboxd.participant import Context, Participant, Tx
from outboxd.registry import Registry
from outboxd.saga import Saga
from tests import factories
from tests.factories import Pay, PlaceOrder


class Ping(Command[None], to="one", key="id"):
    id: str


class Pong(Command[None], to="two", key="id"):
    id: str


class Lonely(Event, source="one", key="id"):
    id: str


class Awaited(Event, source="one", key="id"):
    id: str


def published(tx: Tx, id: str) -> None:
    tx.publish(Lonely(id=id))


def two_participants() -> list[Participant]:
    one, two = Participant("one"), Participant("two")

    @one.handle
    def ping(tx: Tx, cmd: Ping) -> None:
        published(tx, cmd.id)
        tx.send(Pong(id=cmd.id))

    @two.handle
    async def pong(ctx: Context, cmd: Pong) -> None:
        await ctx.commit(lambda tx: tx.send(Ping(id=cmd.id)))

    @two.handle
    def on_awaited(tx: Tx, event: Awaited) -> None: ...

    @two.every("1h")
    def remind(tx: Tx) -> None:
        tx.send(Ping(id="x"))

    return [one, two]


@pytest.fixture
def graph() -> Graph:
    return graph_of(Registry(two_participants()))


def test_a_place_takes_one_message_and_names_others_also_in_lambdas_and_helpers(
    graph: Graph,
) -> None:
    assert list(as_text(graph)) == [
        "Ping → one.ping (handler) → Lonely, Pong",
        "Awaited → two.on_awaited (handler)",
        "Pong → two.pong (handler) → Ping",
        "every 3600s → two.remind (schedule) → Ping",
    ]
    assert graph.messages == {
        "Awaited": "event",
        "Lonely": "event",
        "Ping": "command",
        "Pong": "command",
    }


def test_what_does_not_fit_together_is_said(graph: Graph) -> None:
    assert graph.warnings == (
        "two.on_awaited handles Awaited, which no code of one names",
        "nobody here handles Lonely, which one.ping names",
        "a cycle: one.ping → two.pong → one.ping; see that it comes to an end",
    )


def test_a_command_that_nobody_here_owns_is_said() -> None:
    orders = Participant("orders")

    @orders.saga
    async def fulfil(saga: Saga, order: PlaceOrder) -> str:
        await saga.call(Pay(), undo=factories.Void())
        return "ok"

    found = graph_of(Registry([orders]))
    assert found.places[0].names == ("Pay", "Void")
    assert "nobody here owns Pay, which orders.fulfil names: it belongs to 'payments'" in (
        found.warnings
    )


def test_what_fits_together_has_no_warning() -> None:
    one = Participant("one")

    @one.handle
    def ping(tx: Tx, cmd: Ping) -> None: ...

    assert graph_of(Registry([one])).warnings == ()


def test_mermaid_has_a_box_for_each_participant_and_arrows_for_each_message(graph: Graph) -> None:
    lines = [line.strip() for line in as_mermaid(graph)]
    assert lines[0] == "flowchart LR"
    assert lines.count("end") == 2
    assert 'subgraph n_one_["one"]' in lines
    assert "n_one_ping --> n_Pong" in lines
    assert "n_Pong --> n_two_pong" in lines
    assert "n_one_ping -.-> n_Lonely" in lines
