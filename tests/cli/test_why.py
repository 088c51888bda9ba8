"""``why``: where a thing is, what comes next, and what is in its way; also while nothing runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from outboxd import operate
from outboxd.message import events_stream, in_stream
from outboxd.monitor import Monitor, Why
from outboxd.store import control
from tests.cli import filling
from tests.cli.conftest import Run
from tests.cli.filling import HOUR, Still, control_db, daemon, store
from tests.cli.test_terminal import on_terminal

CALL = "orders/fulfil/1#2"


def why(data: Path, name: str) -> Why:
    with Monitor(data, Still()) as monitor:
        return monitor.why(name)


@pytest.fixture
def calling(data: Path) -> Path:
    """The saga orders/fulfil/1 waits for payments; its message is nowhere yet."""
    filling.catalog(data)
    with store(data, "orders") as connection:
        filling.call(connection, filling.saga(connection, "1"))
    with store(data, "payments"):
        pass
    return data


def in_outbox(data: Path, message_id: str = CALL, stream: str = in_stream("payments")) -> None:
    with store(data, "orders") as connection:
        filling.insert(connection, "stream", stream=stream, last=1)
        filling.insert(
            connection,
            "outbox",
            stream=stream,
            seq=1,
            id=message_id,
            at=filling.now() - 30,
            body=b"{}",
        )


def test_while_nothing_runs_that_is_what_is_in_the_way(calling: Path) -> None:
    in_outbox(calling)
    said = why(calling, "1")
    assert said.waits_for[0] == (
        f"for payments: AuthorizePayment ({CALL}) is in the outbox of orders for 30s: "
        "not yet there; its deadline stands still meanwhile"
    )
    assert said.next == ("nothing moves by itself: outboxd does not run on this data directory",)
    assert said.moves[0] == "outboxd run"


@pytest.mark.parametrize(
    ("note", "following"),
    [
        (
            {"broker": {"state": "down", "error": "refused"}},
            "the broker has been unreachable for 12s; it is sent as soon as that is back: refused",
        ),
        (
            {"participants": ["orders"]},
            "payments does not run: outboxd was started without its plugin (it hosts orders)",
        ),
        (
            {"problems": ["payments holds back what orders sends: why; `outboxd trust orders`"]},
            "payments holds back what orders sends: why",
        ),
        ({}, "payments takes it from its stream"),
    ],
)
def test_what_keeps_a_message_in_the_outbox_is_named(
    calling: Path, note: dict[str, Any], following: str
) -> None:
    in_outbox(calling)
    if "broker" in note:
        note = {"broker": {**note["broker"], "since": filling.now() - 12}}
    with daemon(calling, at=filling.now(), **note):
        said, message = why(calling, "1"), why(calling, CALL)
    assert said.next[0] == message.next[0] == following
    assert ("outboxd trust orders" in said.moves) == ("problems" in note)
    assert message.waits_for[0].endswith("not yet taken by payments")


def test_a_hole_that_nothing_can_fill_is_named(calling: Path) -> None:
    with store(calling, "orders") as connection:
        filling.sent(connection, 5, settled=4)
        connection.execute("UPDATE outboxd_outbox SET id = ?", (CALL,))
    with store(calling, "payments") as connection:
        filling.accepted(connection, 2, 2)
    with daemon(calling, at=filling.now()):
        said = why(calling, "1")
        assert said.next[0].startswith("payments lacks numbers 3 to 4 of what orders has sent")
        assert said.moves[0] == "outboxd audit"
        with store(calling, "payments") as connection:
            connection.execute("UPDATE outboxd_sender SET accepted = 4")
        assert why(calling, "1").next[0] == "payments takes it from its stream"


def test_the_deadline_says_what_it_does(calling: Path) -> None:
    in_outbox(calling)
    with daemon(calling, at=filling.now()):
        assert why(calling, "1").next[1] == (
            "unless it is answered, in 2m its saga gets TimedOut, and undoes what it did if its "
            "code does not go on"
        )
        with store(calling, "orders") as connection:
            connection.execute("UPDATE outboxd_saga SET is_forward = 1")
        assert why(calling, "1").next[1] == (
            "unless it is answered, in 2m it is sent again under the same id"
        )
        with store(calling, "orders") as connection:
            connection.execute("UPDATE outboxd_call SET due_at = ?", (filling.now() - 5,))
        assert "counts only time in which an answer could have come" in why(calling, "1").next[1]


def test_an_undo_is_tried_for_a_day(data: Path) -> None:
    filling.catalog(data)
    with store(data, "orders") as connection:
        undone = filling.undo(connection, filling.saga(connection, "1", "compensating"))
    with store(data, "payments") as connection:
        filling.held(
            connection, undone, attempts=3, error="KeyError: 'a'", due_at=filling.now() + 9
        )
    with daemon(data, at=filling.now()):
        said = why(data, "1")
    assert said.next == (
        "attempt 4 in 9.00s",
        "unless it is answered, in 24h its saga is stuck, and a person decides",
    )


def test_what_waits_behind_a_dead_letter_that_holds_its_key_names_it(calling: Path) -> None:
    with store(calling, "payments") as connection:
        n = filling.letter(connection, "first")
        filling.held(connection, "first", state="held", letter=n, error="CardTimeout: no answer")
        filling.held(connection, CALL)
    said = why(calling, "1")
    assert "is there, behind AuthorizePayment (first) of the same key" in said.waits_for[0]
    assert "its turn, when a person replays or discards d-1, which holds the key" in said.next
    assert "outboxd dead replay d-1" in said.moves


def test_what_ran_when_the_process_died_is_not_said_to_run(calling: Path) -> None:
    with store(calling, "payments") as connection:
        filling.held(
            connection, CALL, state="running", attempts=1, started_at=filling.now(), crashes=2
        )
    text = why(calling, "1").waits_for[0]
    assert "ran there when outboxd stopped, attempt 1" in text
    assert "the process has ended 2 times before while it ran" in text
    with store(calling, "payments") as connection:
        connection.execute("UPDATE outboxd_inbox SET state = 'waiting', is_suspect = 1")
    with daemon(calling, at=filling.now()):
        assert "is suspect there and tried alone" in why(calling, CALL).waits_for[0]


def test_a_bug_with_its_answer_here_waits_for_a_person_only(calling: Path) -> None:
    with store(calling, "orders") as connection:
        connection.execute("UPDATE outboxd_saga SET state = 'stuck', stuck = 'bug', detail = 'no'")
        filling.held(connection, f"{CALL}:ok", state="held", error="orders/fulfil/1")
    with store(calling, "payments") as connection:
        filling.insert(connection, "fence", id=CALL, state="done", at=filling.now())
    with daemon(calling, at=filling.now()):
        said = why(calling, "1")
    assert "is answered; the answer is held there until the saga" in said.waits_for[1]
    assert said.next == ("nothing, until a person moves it; its deadlines stand still meanwhile",)


def test_an_event_waits_for_each_subscriber_that_lacks_it(data: Path) -> None:
    in_outbox(data, "e-1", events_stream("orders"))
    with store(data, "orders") as connection:
        for name in ("log", "mail", "far"):
            filling.insert(connection, "subscriber", name=name, since=0, at=filling.now())
    with store(data, "log") as connection:
        filling.accepted(connection, 1, 1, kind="events")
    with store(data, "mail"):
        pass
    with daemon(data, at=filling.now(), participants=["orders", "log"]):
        said = why(data, "e-1")
    assert [text.rpartition(" ")[2] for text in said.waits_for] == ["far", "mail"]
    assert said.next == (
        "far has no data here: another node hosts it, or nobody does yet",
        "mail does not run: outboxd was started without its plugin (it hosts orders, log)",
    )


def test_a_delayed_message_sets_out_at_its_time(data: Path) -> None:
    with store(data, "orders") as connection:
        filling.insert(
            connection,
            "delayed",
            id="m",
            stream="outboxd:{p}:in",
            due_at=filling.now() + HOUR,
            body=b"",
        )
    said = why(data, "m")
    assert (said.state, said.moves) == ("delayed", ("outboxd run",))
    assert said.waits_for == ("for its time: orders sends it to outboxd:{p}:in in 60m",)


def test_a_message_that_is_not_applied_yet_is_found_by_its_id_and_its_key(calling: Path) -> None:
    operate.send(calling, "PlaceOrder", b'{"order_id": "77"}', message_id="m-77", who="ada")
    for name in ("m-77", "send-m-77", "77"):
        said = why(calling, name)
        assert (said.kind, said.state) == ("message", "pending")
        assert said.waits_for[0].startswith("for outboxd to apply it, for")
        assert said.moves == ("outboxd run",)


def test_a_message_that_was_refused_says_why(calling: Path) -> None:
    request = operate.send(calling, "PlaceOrder", b'{"order_id": "77"}', message_id="m-77")
    with control_db(calling) as connection:
        control.mark(connection, request.id, "refused", "no such email", filling.now())
    said = why(calling, "m-77")
    assert (said.state, said.waits_for) == ("refused", ())
    assert said.next == ("nothing: it was refused: no such email",)


def test_a_handled_message_names_the_saga_that_it_started(calling: Path) -> None:
    operate.send(calling, "PlaceOrder", b'{"order_id": "1"}', message_id="m-1")
    with control_db(calling) as connection:
        control.mark(connection, "send-m-1", "applied", "m-1", filling.now() - 3)
    said = why(calling, "m-1")
    assert said.waits_for == ("for the saga orders/fulfil/1, which it started: it is running",)
    assert said.next == ("nothing: orders took it 3.00s ago",)
    assert said.moves == ("outboxd why orders/fulfil/1",)


def test_what_has_ended_says_how_and_when(shop: Path) -> None:
    said = why(shop, "10301")
    assert (said.waits_for, said.moves) == ((), ())
    assert said.next == (
        "nothing: it was compensated 2m ago, after 58m: AuthorizePayment: over the limit",
    )


def test_a_page_of_it_fits_and_explains_its_commands(shop: Path, run: Run) -> None:
    document = json.loads(run("why", "10431", "--json").stdout)
    assert {"id", "kind", "state", "waits_for", "next", "moves"} <= set(document)
    _, output = on_terminal("why", "10431")
    assert "outboxd dead replay d-1  # handles it again" in output
    assert max(map(len, output.splitlines())) <= 80 + len("\x1b[1m\x1b[0m\x1b[31m\x1b[0m")
