"""Conservation: a clean directory has no violation, and each way of losing a message is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from outboxd import Db, Participant
from outboxd.monitor import Violation, audit, check_invariants, invariants
from outboxd.registry import Registry
from outboxd.store.connection import Connection
from tests.cli import filling
from tests.cli.filling import store


def violated(data: Path) -> Violation:
    """The only violation."""
    [found] = audit(data)
    return found


def pair(data: Path, *, last: int, settled: int, accepted: int, done: int) -> None:
    """Orders has sent to payments, which has accepted and done so much of it."""
    with store(data, "orders") as connection:
        filling.sent(connection, last, settled=settled)
    with store(data, "payments") as connection:
        filling.accepted(connection, accepted, done)


def test_a_directory_in_trouble_conserves_everything(shop: Path) -> None:
    assert audit(shop) == []


@pytest.mark.parametrize(("settled", "accepted"), [(0, 0), (0, 5), (5, 5), (3, 5), (8, 8)])
def test_what_is_accepted_may_still_lie_in_the_outbox(
    data: Path, settled: int, accepted: int
) -> None:
    pair(data, last=8, settled=settled, accepted=accepted, done=accepted)
    assert audit(data) == []


def test_a_message_deleted_before_it_was_accepted_is_named_by_number(data: Path) -> None:
    pair(data, last=8, settled=5, accepted=3, done=3)
    found = violated(data)
    assert (found.rule, found.participant) == ("sent", "orders")
    assert found.ids == ("outboxd:{payments}:in 4", "outboxd:{payments}:in 5")
    assert "has sent 8 on outboxd:{payments}:in, 3 of them are accepted" in found.text


def test_a_hole_in_the_outbox_is_named_by_number(data: Path) -> None:
    pair(data, last=8, settled=3, accepted=3, done=3)
    with store(data, "orders") as connection:
        connection.execute("DELETE FROM outboxd_outbox WHERE seq IN (6, 8)")
    assert violated(data).ids == ("outboxd:{payments}:in 6", "outboxd:{payments}:in 8")


def test_an_emptied_outbox_is_not_taken_for_a_settled_one(data: Path) -> None:
    pair(data, last=30, settled=30, accepted=3, done=3)
    assert len(violated(data).ids) == 10


def test_a_sender_restored_from_an_old_copy_is_noticed(data: Path) -> None:
    pair(data, last=8, settled=8, accepted=9, done=9)
    assert "payments has accepted number 9 of orders" in violated(data).text


def test_another_epoch_is_named(data: Path) -> None:
    with store(data, "orders") as connection:
        filling.sent(connection, 2)
    with store(data, "payments") as connection:
        filling.accepted(connection, 7, 7, epoch=filling.EPOCH - 1)
    found = violated(data)
    assert (found.rule, found.participant) == ("epoch", "payments")


def test_a_receiver_on_another_node_is_not_judged(data: Path) -> None:
    with store(data, "orders") as connection:
        filling.sent(connection, 5, settled=2, to="elsewhere")
    assert audit(data) == []
    with store(data, "orders") as connection:
        connection.execute("DELETE FROM outboxd_outbox WHERE seq = 4")
    assert violated(data).ids == ("outboxd:{elsewhere}:in 4",)


def test_the_slowest_subscriber_decides_about_events(data: Path) -> None:
    with store(data, "orders") as connection:
        filling.sent(connection, 9, settled=4, to="orders", kind="events")
        for name, since in (("mail", 0), ("stats", 2), ("late", -1)):
            filling.insert(connection, "subscriber", name=name, since=since, at=0.0)
    with store(data, "mail") as connection:
        filling.accepted(connection, 9, 9, kind="events")
    with store(data, "stats") as connection:
        filling.accepted(connection, 4, 2, kind="events", since=2)
    with store(data, "late") as connection:
        filling.accepted(connection, -1, 0, kind="events")
    assert audit(data) == []
    with store(data, "stats") as connection:
        connection.execute("UPDATE outboxd_sender SET accepted = 3, done = 1")
    assert violated(data).ids == ("outboxd:{orders}:events 4",)


def test_events_without_a_subscriber_are_let_go(data: Path) -> None:
    with store(data, "orders") as connection:
        filling.sent(connection, 9, settled=9, to="orders", kind="events")
    assert audit(data) == []


Change = Callable[[Connection], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.execute("DELETE FROM outboxd_inbox WHERE id = 'waiting'"), "1 lost"),
        (lambda c: c.execute("DELETE FROM outboxd_dead WHERE id = 'gone'"), "1 lost"),
        (lambda c: c.execute("UPDATE outboxd_sender SET done = done + 2"), "2 counted twice"),
        (lambda c: c.execute("DELETE FROM outboxd_sender"), "accepted 0 of orders"),
    ],
)
def test_what_a_receiver_lost_or_counted_twice_is_named(
    data: Path, change: Change, said: str
) -> None:
    everything_once(data)
    assert audit(data) == []
    with store(data, "payments") as connection:
        change(connection)
    found = violated(data)
    assert (found.rule, found.participant) == ("received", "payments")
    assert said in found.text


def everything_once(data: Path) -> None:
    """One message in each of the states in which a receiver may hold it; three are done."""
    with store(data, "payments") as connection:
        filling.accepted(connection, 9, 3)
        filling.held(connection, "waiting")
        replaying = filling.letter(connection, "again", state="replaying")
        filling.held(connection, "again", letter=replaying)
        holding = filling.letter(connection, "holds its key")
        filling.held(connection, "holds its key", state="held", letter=holding)
        filling.letter(connection, "dead")
        filling.letter(connection, "gone", state="discarded")
        filling.letter(connection, "closed", state="closed")
        filling.letter(connection, "done after all", state="replayed")


def test_a_message_that_is_alive_and_dead_is_named_by_id(data: Path) -> None:
    everything_once(data)
    with store(data, "payments") as connection:
        filling.held(connection, "dead")
    assert violated(data).ids == ("dead",)


def test_messages_without_numbers_are_counted_as_well(data: Path) -> None:
    with store(data, "payments") as connection:
        filling.accepted(connection, 2, 0, sender="*", kind="local", epoch=0)
        filling.held(connection, "timer", sender="*", kind="local")
    assert "accepted 2 of its own timers and of senders without numbers" in violated(data).text


@pytest.mark.parametrize("state", ["running", "compensating"])
def test_a_saga_that_waits_for_nothing_is_named(data: Path, state: str) -> None:
    with store(data, "orders") as connection:
        saga_id = filling.saga(connection, "1", state)
    found = violated(data)
    assert (found.rule, found.ids) == ("waiting", (saga_id,))


@pytest.mark.parametrize(
    "message",
    [
        {"message_id": "orders/fulfil/1#2:ok", "key": None},
        {"message_id": "m-1", "key": "1"},
        {"message_id": "m-1", "key": None, "error": "orders/fulfil/1", "state": "held"},
    ],
)
def test_a_saga_whose_message_is_about_to_move_it_waits(
    data: Path, message: dict[str, Any]
) -> None:
    with store(data, "orders") as connection:
        filling.saga(connection, "1")
        filling.accepted(connection, 1, 0, sender="payments")
        filling.held(connection, sender="payments", **message)
    assert audit(data) == []


# Invariants.


@pytest.fixture
def till() -> Participant:
    till = Participant("till")

    @till.invariant("no table is missing")
    def has_tables(db: Db) -> Iterable[str]:
        yield from []

    @till.invariant("the number is even")
    def is_even(db: Db) -> Iterable[str]:
        last = db.value("SELECT COALESCE(MAX(last), 0) FROM outboxd_stream")
        if last % 2:
            yield f"it is {last}"

    @till.invariant("at rest the orders have none", when="idle")
    def has_none(db: Db) -> Iterable[str]:
        if db.of("orders").value("SELECT COUNT(*) FROM outboxd_saga"):
            yield "they have"

    @till.invariant("elsewhere all is well")
    def elsewhere(db: Db) -> Iterable[str]:
        yield str(db.of("nowhere").value("SELECT 1"))

    @till.invariant("it can be computed")
    def computed(db: Db) -> Iterable[str]:
        db.execute("DELETE FROM outboxd_stream")
        yield "it was"

    return till


def states(data: Path, till: Participant) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {r.text: (r.state, r.sentences) for r in invariants(data, Registry([till]))}


def test_each_invariant_is_judged_on_its_own(data: Path, till: Participant) -> None:
    with store(data, "till") as connection:
        filling.sent(connection, 3, settled=3, to="elsewhere")
    with store(data, "orders") as connection:
        filling.saga(connection, "1", "completed")
    found = states(data, till)
    assert found["no table is missing"] == ("holds", ())
    assert found["the number is even"] == ("violated", ("it is 3",))
    assert found["at rest the orders have none"] == ("violated", ("they have",))
    assert found["elsewhere all is well"][0] == "skipped"
    state, [sentence] = found["it can be computed"]
    assert state == "failed"
    assert "test_proof.py:" in sentence
    assert "readonly" in sentence
    assert check_invariants(data, Registry([till]))[0] == "till: the number is even: it is 3"


def test_what_holds_at_rest_is_not_judged_while_something_is_under_way(
    data: Path, till: Participant
) -> None:
    with store(data, "till"), store(data, "orders") as connection:
        filling.saga(connection, "1")
    assert states(data, till)["at rest the orders have none"] == (
        "skipped",
        ("under way: orders has an open saga",),
    )
    pair(data, last=2, settled=0, accepted=1, done=1)
    with store(data, "orders") as connection:
        connection.execute("DELETE FROM outboxd_saga")
    assert states(data, till)["at rest the orders have none"][1] == (
        "under way: payments has not accepted all of orders",
    )


def test_a_participant_without_data_is_skipped(shop: Path, till: Participant) -> None:
    assert {result.state for result in invariants(shop, Registry([till]))} == {"skipped"}
