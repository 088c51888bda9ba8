"""The read model of the dashboard: flow, messages, the log, what became of letters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outboxd.errors import ConfigError, NotFound
from outboxd.monitor import Monitor
from outboxd.store import dead
from tests.cli import filling
from tests.cli.filling import HOUR, MINUTE, Still, store


@pytest.fixture
def monitor(shop: Path) -> Iterator[Monitor]:
    with Monitor(shop, Still()) as found:
        yield found


# Flow.


def test_each_stream_and_each_participant_is_counted(monitor: Monitor) -> None:
    flow = monitor.flow()
    [sent] = flow.sent
    assert (sent.sender, sent.to, sent.total, sent.waiting) == ("orders", "payments", 8, 1)
    assert sent.oldest_at is not None
    assert sent.oldest_at.timestamp() == pytest.approx(filling.now() - 30)
    handled = {found.participant: found for found in flow.handled}
    payments = handled["payments"]
    assert (payments.accepted, payments.done) == (7, 3)
    assert (payments.waiting, payments.retrying, payments.running) == (1, 1, 1)
    assert payments.oldest_at is not None
    assert payments.oldest_at.timestamp() == pytest.approx(filling.now() - MINUTE)
    assert payments.fault == "CardTimeout: no answer from card-gw after 5.0 s"
    assert handled["orders"].timers == 4
    assert {disk.name for disk in flow.disks} == {"orders", "payments", "control"}
    assert flow.free_bytes > 0


def test_a_call_is_timed_from_its_asking_to_its_answer(monitor: Monitor) -> None:
    payments = next(h for h in monitor.flow().handled if h.participant == "payments")
    assert payments.p50_s == pytest.approx(MINUTE)
    orders = next(h for h in monitor.flow().handled if h.participant == "orders")
    assert orders.p50_s is None


def test_events_go_to_nobody_in_particular(shop: Path) -> None:
    with store(shop, "payments") as connection:
        filling.sent(connection, 3, to="payments", kind="events", settled=3)
    with Monitor(shop, Still()) as monitor:
        events = [sent for sent in monitor.flow().sent if sent.sender == "payments"]
    assert [(sent.to, sent.total, sent.waiting) for sent in events] == [(None, 3, 0)]


def test_the_ended_of_each_second_are_counted(shop: Path) -> None:
    with store(shop, "orders") as connection:
        for n in range(3):
            filling.saga(connection, f"x{n}", "completed", ended_at=filling.now() - 5)
        filling.saga(connection, "y", "compensated", ended_at=filling.now() - 5)
    with Monitor(shop, Still()) as monitor:
        ended = monitor.ended_per_second(30)
    assert ended == {int(filling.now() - 5): {"completed": 3, "compensated": 1}}


# Messages.


def test_messages_under_way_stand_with_the_failing_first(monitor: Monitor) -> None:
    rows = monitor.messages()
    assert [row.state for row in rows] == ["retrying", "running", "queued", "sending"]
    assert (rows[0].tries, rows[0].saga) == (3, "orders/fulfil/10519")
    assert (rows[3].sender, rows[3].to, rows[3].type) == ("orders", "payments", "AuthorizePayment")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("state:retrying", ["10519"]),
        ("try:>2", ["10519"]),
        ("try:<1 !state:sending", ["1"]),
        ("type:void", ["1"]),
        ("participant:payments state:running,retrying", ["10519", "10530"]),
        ("CardTimeout", ["10519"]),
        ("zebra", []),
    ],
)
def test_messages_are_filtered(monitor: Monitor, text: str, found: list[str]) -> None:
    assert [row.key for row in monitor.messages(text)] == found


def test_a_field_that_messages_do_not_have_is_named(monitor: Monitor) -> None:
    with pytest.raises(ConfigError, match="no field 'stat'"):
        monitor.messages("stat:running")


def test_a_delayed_message_says_when_it_sets_out(shop: Path) -> None:
    with store(shop, "orders") as connection:
        body = filling.envelope("later", "AuthorizePayment", subject="7")
        stream = "outboxd:{payments}:in"
        filling.insert(
            connection, "delayed", id="later", stream=stream, due_at=filling.now() + HOUR, body=body
        )
    with Monitor(shop, Still()) as monitor:
        [row] = monitor.messages("state:delayed")
        assert (row.id, row.key, row.due_at is not None) == ("later", "7", True)
        assert monitor.message("later").data == {"order_id": "1"}


def test_a_message_is_shown_as_long_as_it_is_under_way(monitor: Monitor) -> None:
    detail = monitor.message("orders/fulfil/10519#2")
    assert detail.envelope["type"] == "AuthorizePayment"
    with pytest.raises(NotFound, match="no longer under way"):
        monitor.message("gone")


# The log.


def test_a_log_ends_with_its_latest_lines_repeats_are_counted(shop: Path) -> None:
    (shop / "log").mkdir()
    head = "2026-11-25 06:33:56,556 level={} logger=outboxd.relay "
    (shop / "log" / "outboxd.log").write_text(
        head.format("INFO") + "started\n"
        + (head.format("WARNING") + "broker_unreachable error='refused'\n") * 3
        + head.format("ERROR") + "bug id='a'\nTraceback (most recent call last):\n  x\n"
    )  # fmt: skip
    with Monitor(shop, Still()) as monitor:
        last, repeated, first = monitor.log()
        assert (last.level, last.text) == ("ERROR", "bug id='a'")
        assert "Traceback" in last.more
        assert (repeated.times, repeated.level) == (3, "WARNING")
        assert first.at == "2026-11-25 06:33:56"
        assert [line.text for line in monitor.log("WARNING refused")] == [repeated.text]
        assert not monitor.log("zebra")


def test_only_the_end_of_a_long_log_is_read(shop: Path) -> None:
    (shop / "log").mkdir()
    line = "2026-11-25 06:33:56,556 level=INFO logger=outboxd n={}\n"
    (shop / "log" / "outboxd.log").write_text("".join(line.format(n) for n in range(9000)))
    with Monitor(shop, Still()) as monitor:
        lines = monitor.log(limit=10)
    assert [line.text for line in lines[:2]] == ["n=8999", "n=8998"]
    assert len(lines) == 10


def test_where_nothing_was_logged_there_is_no_log(monitor: Monitor) -> None:
    assert monitor.log() == []


# Letters and sagas.


def test_what_became_of_letters_is_counted(shop: Path) -> None:
    with store(shop, "payments") as connection:
        for n in range(1200):
            filling.letter(connection, f"m-{n}")
        dead.set_state(connection, 5, "replaying", None)
        dead.set_state(connection, 6, "discarded", "old")
    with Monitor(shop, Still()) as monitor:
        states = monitor.letter_states([("payments", n) for n in range(1, 1202)])
    assert states == {"dead": 1199, "replaying": 1, "discarded": 1}


def test_a_saga_tells_what_started_it_when_tries_failed_and_what_it_undoes(shop: Path) -> None:
    with store(shop, "orders") as connection:
        saga_id = "orders/fulfil/10502"
        filling.journal(connection, saga_id, "call", 2, "AuthorizePayment", filling.now() - 50)
        filling.journal(connection, saga_id, "rejected", 2, "AuthorizePayment", filling.now() - 40)
        filling.journal(connection, saga_id, "undo_sent", 2, "VoidPayment", filling.now() - 30)
    with Monitor(shop, Still()) as monitor:
        undone = monitor.saga("10502")
        [undo] = undone.undos
        assert (undo.kind, undo.name, undo.to) == ("undo", "VoidPayment", "payments")
        assert undo.ended_at is None
        assert undone.start is not None
        assert b"PlaceOrder" in bytes(undone.start)
        stuck = monitor.saga("10431")
        assert [len(step.tried_at) for step in stuck.steps] == [0, 3]
    with store(shop, "orders") as connection:
        filling.journal(connection, saga_id, "undo_done", 2, "VoidPayment", filling.now() - 20)
    with Monitor(shop, Still()) as monitor:
        [undo] = monitor.saga("10502").undos
    assert undo.state == "done"
    assert undo.took_s == pytest.approx(10)
