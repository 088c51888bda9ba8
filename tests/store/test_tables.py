"""The other tables, each by its own functions: inbox, journal, letters, timers and the rest."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from outboxd.batch import Batch
from outboxd.store import (
    applied,
    dead,
    fence,
    inbox,
    journal,
    meta,
    outbox,
    retention,
    subscriber,
    timers,
)
from outboxd.store.connection import Connection
from outboxd.store.fence import Fence
from outboxd.store.inbox import Sender
from outboxd.store.journal import CallRow, JournalRow, SagaRow, Write
from tests.factories import AT, call_row, held, letter, saga_row

SAGA = "orders/fulfil/o-1"


def count(connection: Connection, table: str) -> int:
    found: int = connection.execute(f"SELECT COUNT(*) FROM outboxd_{table}").fetchone()[0]
    return found


# Inbox.


def test_a_held_message_comes_back_as_it_was_put(connection: Connection) -> None:
    row = held(error="ValueError: no", started_at=AT, letter=None, body=b"\x00\xff")
    n = inbox.add(connection, row)
    assert inbox.by_number(connection, n) == msgspec.structs.replace(row, n=n)
    assert inbox.by_id(connection, "m-1") == inbox.by_number(connection, n)


def test_a_message_that_is_not_held_is_not_found(connection: Connection) -> None:
    assert inbox.by_number(connection, 1) is None
    assert inbox.by_id(connection, "m-1") is None


def test_a_number_of_the_inbox_is_never_given_twice(connection: Connection) -> None:
    first = inbox.add(connection, held())
    inbox.remove(connection, first)
    assert inbox.add(connection, held()) > first


def test_what_may_change_of_a_held_message_is_saved(connection: Connection) -> None:
    row = held()
    row.n = inbox.add(connection, row)
    row.state, row.is_suspect, row.attempts, row.crashes = "running", 1, 3, 2
    row.letter, row.due_at, row.started_at, row.error = 7, AT + 1, AT + 2, "oops"
    inbox.save(connection, row)
    assert inbox.by_number(connection, row.n) == row


def test_a_state_that_nobody_knows_is_refused_by_the_table(connection: Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        inbox.add(connection, held(state="lost"))


def test_the_inbox_is_listed_in_the_order_of_arrival(connection: Connection) -> None:
    for message_id in ("c", "a", "b"):
        inbox.add(connection, held(id=message_id))
    assert [n for n, *_ in inbox.places(connection)] == [1, 2, 3]


def test_what_runs_is_listed_first(connection: Connection) -> None:
    for state in ("waiting", "running", "held"):
        inbox.add(connection, held(id=state, state=state))
    assert [state for _, _, _, state, _, _ in inbox.places(connection)] == [
        "running",
        "waiting",
        "held",
    ]


@pytest.mark.parametrize("was_clean", [True, False])
def test_an_attempt_that_was_interrupted_is_given_back(
    connection: Connection, was_clean: bool
) -> None:
    for state, attempts in (("running", 2), ("waiting", 0), ("waiting", 1), ("held", 0)):
        inbox.add(connection, held(id=f"{state}-{attempts}", state=state, attempts=attempts))
    inbox.reopen(connection, AT + 9, was_clean=was_clean)
    rows = [inbox.by_number(connection, n) for n in range(1, 5)]
    found = [(r.state, r.attempts, r.crashes, r.is_suspect) for r in rows if r is not None]
    crash = int(not was_clean)
    assert found == [
        ("waiting", 1, crash, crash),
        ("waiting", 0, 0, crash),
        ("waiting", 1, 0, 0),
        ("held", 0, 0, 0),
    ]
    assert rows[0] is not None
    assert rows[0].due_at == AT + 9


def test_messages_that_a_stuck_saga_holds_are_found(connection: Connection) -> None:
    for message_id, state, error in (
        ("a", "held", SAGA),
        ("b", "waiting", SAGA),
        ("c", "held", "another"),
        ("d", "held", SAGA),
    ):
        inbox.add(connection, held(id=message_id, state=state, error=error))
    assert [row.id for row in inbox.held_for(connection, SAGA)] == ["a", "d"]


def test_a_senders_row_is_made_and_moved(connection: Connection) -> None:
    orders, local = ("orders", "in"), ("*", "local")
    inbox.save_senders(connection, [(orders, Sender(5, 0, 3, 2)), (local, Sender(0, 0, 1, 1))])
    inbox.save_senders(connection, [(orders, Sender(6, 1, 9, 8))])
    assert inbox.senders(connection) == {orders: Sender(6, 1, 9, 8), local: Sender(0, 0, 1, 1)}


def test_a_foreign_message_is_remembered_by_source_and_id(connection: Connection) -> None:
    inbox.see(connection, "shop", "m-1", 42, AT)
    assert inbox.seen_mark(connection, "shop", "m-1") == 42
    assert inbox.seen_mark(connection, "other", "m-1") is None
    assert inbox.seen_mark(connection, "shop", "m-2") is None


def test_failed_attempts_are_numbered_for_each_message(connection: Connection) -> None:
    for message_id in ("a", "b", "a"):
        inbox.fail_attempt(connection, message_id, AT, 0.1, "again", "error", "trace")
    rows = connection.execute("SELECT id, n FROM outboxd_attempt ORDER BY id, n").fetchall()
    assert rows == [("a", 1), ("a", 2), ("b", 1)]


def test_what_an_effect_did_is_started_then_done_with_its_result(connection: Connection) -> None:
    assert inbox.once_result(connection, "m-1", "book") is None
    assert not inbox.has_acted(connection, "m-1")
    inbox.start_once(connection, "m-1", "book", AT)
    assert inbox.once_result(connection, "m-1", "book") == ("started", None)
    assert inbox.has_acted(connection, "m-1")
    inbox.end_once(connection, "m-1", "book", b'"r"')
    assert inbox.once_result(connection, "m-1", "book") == ("done", b'"r"')


def test_an_effect_that_starts_again_keeps_its_result(connection: Connection) -> None:
    inbox.start_once(connection, "m-1", "book", AT)
    inbox.end_once(connection, "m-1", "book", b"1")
    inbox.start_once(connection, "m-1", "book", AT + 5)
    assert inbox.once_result(connection, "m-1", "book") == ("done", b"1")


def test_what_an_effect_did_is_forgotten_message_by_message(connection: Connection) -> None:
    for message_id, name in (("a", "x"), ("a", "y"), ("b", "x")):
        inbox.start_once(connection, message_id, name, AT)
    inbox.forget_once(connection, "a")
    assert not inbox.has_acted(connection, "a")
    assert inbox.has_acted(connection, "b")


# Sagas and their journals.


def write(connection: Connection, what: Write, *rows: tuple[object, ...]) -> None:
    connection.executemany(what.sql, rows)


def add_saga(connection: Connection, row: SagaRow) -> None:
    write(connection, journal.ADD_SAGA, msgspec.structs.astuple(row))


def open_call(connection: Connection, row: CallRow) -> None:
    write(connection, journal.OPEN_CALL, msgspec.structs.astuple(row))


def test_a_saga_comes_back_as_it_was_put_and_as_it_was_changed(connection: Connection) -> None:
    row = saga_row(result=b"\x00", detail="text")
    add_saga(connection, row)
    assert journal.get_saga(connection, SAGA) == row
    row.state, row.is_forward, row.step, row.ending = "stuck", 1, "call Pay", "compensated"
    row.reason, row.stuck, row.detail = "no", "letter", "d-7"
    row.moved_at, row.ended_at, row.result = AT + 1, AT + 2, b"{}"
    write(connection, journal.SAVE_SAGA, journal.saga_changes(row))
    assert journal.get_saga(connection, SAGA) == row
    assert journal.get_saga(connection, "nobody") is None


def test_a_state_of_a_saga_that_nobody_knows_is_refused_by_the_table(
    connection: Connection,
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        add_saga(connection, saga_row(state="lost"))


def test_sagas_are_counted_by_state(connection: Connection) -> None:
    assert journal.counts(connection) == {}
    for saga_id, state, ended_at in (
        ("a", "running", None),
        ("b", "running", None),
        ("c", "stuck", None),
        ("d", "completed", AT),
    ):
        add_saga(connection, saga_row(id=saga_id, state=state, ended_at=ended_at))
    assert journal.counts(connection) == {"running": 2, "stuck": 1, "completed": 1}


def test_a_journal_is_read_in_order(connection: Connection) -> None:
    write(
        connection,
        journal.APPEND,
        (SAGA, 2, "ok", 1, "Pay", 7, AT, b"{}"),
        (SAGA, 1, "call", 1, "Pay", 7, AT, None),
        ("another", 1, "start", 0, "PlaceOrder", 0, AT, None),
    )
    assert journal.rows(connection, SAGA) == [
        JournalRow(1, "call", 1, "Pay", 7, AT, None),
        JournalRow(2, "ok", 1, "Pay", 7, AT, b"{}"),
    ]
    assert journal.length(connection, SAGA) == 2
    assert journal.length(connection, "nobody") == 0


def test_a_number_of_a_journal_is_given_once(connection: Connection) -> None:
    row = (SAGA, 1, "call", 1, "Pay", 7, AT, None)
    with pytest.raises(sqlite3.IntegrityError):
        write(connection, journal.APPEND, row, row)


def test_an_open_call_is_changed_and_closed(connection: Connection) -> None:
    first, second = call_row(), call_row(pos=2, id=f"{SAGA}#2")
    open_call(connection, second)
    open_call(connection, first)
    assert journal.calls_of(connection, SAGA) == [first, second]
    first.due_at, first.sent_at, first.repeats = None, AT + 9, 2
    first.stuck, first.detail = "letter", "d-1"
    write(connection, journal.SAVE_CALL, journal.call_changes(first))
    assert journal.calls_of(connection, SAGA) == [first, second]
    write(connection, journal.CLOSE_CALL, (SAGA, 1))
    assert journal.calls_of(connection, SAGA) == [second]
    assert journal.calls_of(connection, "nobody") == []


def test_an_undo_is_asked_for_and_then_done(connection: Connection) -> None:
    write(
        connection,
        journal.ASK_UNDO,
        (SAGA, 1, f"{SAGA}#1~undo", "Void", "sent", AT),
        (SAGA, 2, f"{SAGA}#2~undo", "Unreserve", "sent", AT),
        (SAGA, 1, f"{SAGA}#1~undo", "Void", "done", AT + 1),
    )
    assert journal.undos_of(connection, SAGA) == {1: "done", 2: "sent"}
    assert journal.undos_of(connection, "nobody") == {}


def test_undos_without_an_answer_are_found_the_oldest_first(connection: Connection) -> None:
    assert journal.first_unanswered(connection) is None
    write(
        connection,
        journal.ASK_UNDO,
        (SAGA, 1, "u1", "Void", "sent", AT + 2),
        (SAGA, 2, "u2", "Unreserve", "sent", AT + 1),
        (SAGA, 3, "u3", "Void", "done", AT),
        (SAGA, 4, "u4", "Void", "sent", AT + 9),
    )
    assert journal.first_unanswered(connection) == AT + 1
    late = [(SAGA, 2, "Unreserve"), (SAGA, 1, "Void")]
    assert journal.unanswered(connection, AT + 5, 10) == late
    assert journal.unanswered(connection, AT + 5, 1) == late[:1]
    assert journal.unanswered(connection, AT + 1, 10) == late[:1], "that very moment is one too"


def test_further_starts_wait_once_each_and_are_taken_together(connection: Connection) -> None:
    for message_id, body in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        journal.add_waiter(connection, SAGA, message_id, body)
    journal.add_waiter(connection, "another", "c", b"4")
    assert sorted(journal.take_waiters(connection, SAGA)) == [b"1", b"2"]
    assert journal.take_waiters(connection, SAGA) == []
    assert count(connection, "waiter") == 1


# Timers.


def three_timers(connection: Connection) -> None:
    open_call(connection, call_row(pos=1, due_at=AT + 30))
    open_call(connection, call_row(pos=2, name="sleep", kind="sleep", due_at=AT + 10))
    open_call(connection, call_row(pos=3, due_at=AT + 20, strict=1))
    open_call(connection, call_row(pos=4, due_at=None))


def deadlines(connection: Connection) -> list[float | None]:
    return [call.due_at for call in journal.calls_of(connection, SAGA)]


def test_what_is_due_comes_earliest_first(connection: Connection) -> None:
    three_timers(connection)
    assert timers.next_due(connection) == AT + 10
    assert timers.due(connection, AT + 9, 10, sleeps_only=False) == []
    in_order = [(SAGA, 2), (SAGA, 3), (SAGA, 1)]
    assert timers.due(connection, AT + 30, 10, sleeps_only=False) == in_order
    assert timers.due(connection, AT + 30, 1, sleeps_only=False) == in_order[:1]


def test_only_sleeps_end_while_no_answer_can_come(connection: Connection) -> None:
    three_timers(connection)
    assert timers.due(connection, AT + 99, 10, sleeps_only=True) == [(SAGA, 2)]


def test_nothing_falls_due_where_nothing_waits(connection: Connection) -> None:
    assert timers.next_due(connection) is None
    open_call(connection, call_row(due_at=None))
    assert timers.next_due(connection) is None


def test_an_outage_is_forgiven_to_calls_but_not_to_strict_ones_and_sleeps(
    connection: Connection,
) -> None:
    three_timers(connection)
    assert timers.forgive(connection, 100.0, AT + 1000) == 1
    assert deadlines(connection) == [AT + 130, AT + 10, AT + 20, None]


def test_a_jump_of_the_wall_clock_moves_whatever_is_due(connection: Connection) -> None:
    three_timers(connection)
    n = inbox.add(connection, held())
    outbox.delay(connection, "m", "s", AT, b"")
    timers.shift(connection, -50.0)
    assert deadlines(connection) == [AT - 20, AT - 40, AT - 30, None]
    row = inbox.by_number(connection, n)
    assert row is not None
    assert row.due_at == AT - 50
    assert outbox.next_due(connection) == AT - 50


# Letters.


def test_a_letter_comes_back_as_it_was_put_under_a_number(connection: Connection) -> None:
    row = letter(reason="why", body=b"\x00")
    n = dead.add(connection, row)
    found = dead.get(connection, n)
    assert found == msgspec.structs.replace(row, n=n)
    assert found is not None
    assert found.name == f"d-{n}"
    assert dead.get(connection, n + 1) is None


def test_the_latest_letter_of_a_message_counts(connection: Connection) -> None:
    dead.add(connection, letter(error="first"))
    latest = dead.add(connection, letter(error="second"))
    dead.add(connection, letter(id="m-2"))
    found = dead.by_message(connection, "m-1")
    assert found is not None
    assert found.n == latest
    assert dead.by_message(connection, "m-9") is None


def test_a_letter_that_dies_again_has_its_newest_error(connection: Connection) -> None:
    n = dead.add(connection, letter())
    dead.set_state(connection, n, "replaying")
    again = letter(n=n, at=AT + 9, attempts=7, error_type="KeyError", error="k", traceback="t")
    dead.die_again(connection, again)
    found = dead.get(connection, n)
    assert found == msgspec.structs.replace(again, failed=2, replays=1, state="dead")


def test_a_state_keeps_its_reason_until_there_is_another(connection: Connection) -> None:
    n = dead.add(connection, letter())
    dead.set_state(connection, n, "replaying", "fixed")
    assert _said(connection, n) == ("replaying", "fixed", 1, None)
    dead.set_state(connection, n, "replayed", settled_at=AT)
    assert _said(connection, n) == ("replayed", "fixed", 1, AT)
    dead.set_state(connection, n, "discarded", "late", settled_at=AT)
    assert _said(connection, n) == ("discarded", "late", 1, AT)


def _said(connection: Connection, n: int) -> tuple[str, str | None, int, float | None]:
    found = dead.get(connection, n)
    assert found is not None
    return found.state, found.reason, found.replays, found.settled_at


def test_letters_that_are_dead_or_being_replayed_are_open(connection: Connection) -> None:
    for state in ("dead", "replaying", "replayed", "discarded", "closed", "dead"):
        dead.add(connection, letter(state=state))
    assert dead.count_open(connection) == 3


# Fences, requests, subscribers, identity.


def test_a_fence_keeps_its_result_when_its_step_is_undone(connection: Connection) -> None:
    assert fence.get(connection, "s") is None
    fence.put(connection, "s", "done", AT, b"{}")
    assert fence.get(connection, "s") == Fence("done", b"{}")
    fence.put(connection, "s", "undone", AT + 1)
    assert fence.get(connection, "s") == Fence("undone", b"{}")
    fence.put(connection, "s", "closed", AT + 2, b"2")
    assert fence.get(connection, "s") == Fence("closed", b"2")


def test_a_fence_knows_only_its_states(connection: Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        fence.put(connection, "s", "open", AT)


class Asked(msgspec.Struct):
    id: str = "op-1"
    kind: str = "saga.cancel"
    target: str = SAGA
    who: str = "ada"
    reason: str = "customer asked"


def test_a_request_is_applied_once_and_keeps_who_and_why(connection: Connection) -> None:
    assert applied.get(connection, "op-1") is None
    applied.add(connection, Asked(), AT, "cancelled")
    assert applied.get(connection, "op-1") == "cancelled"
    assert connection.execute("SELECT * FROM outboxd_applied").fetchall() == [
        ("op-1", AT, "saga.cancel", SAGA, "ada", "customer asked", "cancelled")
    ]
    with pytest.raises(sqlite3.IntegrityError):
        applied.add(connection, Asked(), AT, "again")


def test_a_subscriber_keeps_the_number_with_which_it_began(connection: Connection) -> None:
    assert subscriber.add(connection, "mailer", 7, AT) == 7
    assert subscriber.add(connection, "mailer", 99, AT) == 7
    assert subscriber.add(connection, "books", 8, AT) == 8
    assert subscriber.names(connection) == ["books", "mailer"]


def test_meta_keeps_a_value_of_each_type(connection: Connection) -> None:
    assert meta.get(connection, "x") is None
    for value in ("text", 7, 7.5):
        meta.put(connection, "x", value)
        assert meta.get(connection, "x") == value


def test_an_identity_is_made_once(connection: Connection) -> None:
    first = meta.identity(connection, 1000.5)
    assert first.epoch == 1_000_500
    assert len(first.store_id) == 32
    assert meta.identity(connection, 2000.0) == first


@pytest.mark.parametrize(("now", "above", "epoch"), [(2000.0, 5, 2_000_000), (1.0, 9_999, 10_000)])
def test_a_new_epoch_is_later_than_any_other(
    connection: Connection, now: float, above: int, epoch: int
) -> None:
    first = meta.identity(connection, 1.0)
    renewed = meta.new_epoch(connection, now, above)
    assert renewed.store_id == first.store_id
    assert renewed.epoch == epoch == meta.identity(connection, 3.0).epoch


# Retention.


def test_what_is_old_and_finished_is_removed_and_nothing_else(connection: Connection) -> None:
    for saga_id, ended_at in (("old", AT - 10), ("fresh", AT + 10), ("open", None)):
        add_saga(connection, saga_row(id=saga_id, ended_at=ended_at))
        write(connection, journal.APPEND, (saga_id, 1, "start", 0, "x", 0, AT - 99, None))
        write(connection, journal.ASK_UNDO, (saga_id, 1, "u", "Void", "done", AT - 99))
    for name, at in (("old", AT - 10), ("fresh", AT + 10)):
        fence.put(connection, name, "done", at)
        inbox.see(connection, "shop", name, 1, at)
    for state in ("discarded", "closed", "replayed"):
        settled = dead.add(connection, letter(id=state, sender="desk", kind="in"))
        dead.set_state(connection, settled, state, settled_at=AT - 10)
    dead.add(connection, letter(id="four"))
    found = retention.prune(connection, AT)
    assert (found.rows, found.is_more) == (8, False)
    assert found.sagas == [("old", "running")]
    assert found.letters == {("desk", "in"): 2}
    assert connection.execute("SELECT id FROM outboxd_dead").fetchall() == [("four",)]
    kept = connection.execute("SELECT id FROM outboxd_saga ORDER BY id").fetchall()
    assert kept == [("fresh",), ("open",)]
    assert [count(connection, t) for t in ("journal", "undo", "fence", "seen")] == [2, 2, 1, 1]
    assert retention.prune(connection, AT).rows == 0


def test_a_call_is_remembered_as_long_as_the_saga_it_has_started(connection: Connection) -> None:
    """However long that runs: its undo would else be told that the step never came."""
    add_saga(connection, saga_row(id="desk/trip/1"))
    fence.put(connection, "long", "started", AT - 10, b'"desk/trip/1"')
    fence.put(connection, "gone", "started", AT - 10, b'"desk/trip/2"')
    fence.put(connection, "older", "started", AT - 10)
    assert retention.prune(connection, AT).rows == 2
    assert fence.get(connection, "long") is not None
    connection.execute("UPDATE outboxd_saga SET ended_at = ?", (AT - 5,))
    retention.prune(connection, AT)
    retention.prune(connection, AT)
    assert fence.get(connection, "long") is None


def test_attempts_are_kept_for_what_is_not_over(connection: Connection) -> None:
    inbox.add(connection, held(id="retrying"))
    dead.add(connection, letter(id="dead"))
    dead.add(connection, letter(id="gone", state="discarded"))
    for message_id in ("retrying", "dead", "gone", "done"):
        inbox.fail_attempt(connection, message_id, AT - 1, 0.1, "again", "error", "trace")
    inbox.fail_attempt(connection, "done", AT + 1, 0.1, "again", "error", "trace")
    retention.prune(connection, AT)
    rows = connection.execute("SELECT id, n FROM outboxd_attempt ORDER BY id").fetchall()
    assert rows == [("dead", 1), ("done", 2), ("retrying", 1)]


def test_one_call_removes_a_bounded_number_of_rows(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SAGAS", 2)
    for i in range(5):
        add_saga(connection, saga_row(id=f"s{i}", ended_at=AT - 10))
        write(connection, journal.APPEND, (f"s{i}", 1, "start", 0, "x", 0, AT, None))
    found = [retention.prune(connection, AT) for _ in range(4)]
    assert [(part.rows, part.is_more) for part in found] == [
        (4, True),
        (4, True),
        (2, False),
        (0, False),
    ]


# What each of them reads.

WORKED_OFTEN: dict[str, Callable[[Connection], Any]] = {
    "outbox.after": lambda cx: outbox.after(cx, "s", 1, 10),
    "outbox.settle": lambda cx: outbox.settle(cx, [("s", 1)]),
    "outbox.take_due": lambda cx: outbox.take_due(cx, AT, 10),
    "outbox.next_due": outbox.next_due,
    "inbox.by_number": lambda cx: inbox.by_number(cx, 1),
    "inbox.by_id": lambda cx: inbox.by_id(cx, "m"),
    "inbox.remove": lambda cx: inbox.remove(cx, 1),
    "inbox.save": lambda cx: inbox.save(cx, held()),
    "inbox.seen_mark": lambda cx: inbox.seen_mark(cx, "s", "m"),
    "inbox.fail_attempt": lambda cx: inbox.fail_attempt(cx, "m", AT, 0.0, "", "", ""),
    "inbox.once_result": lambda cx: inbox.once_result(cx, "m", "x"),
    "inbox.has_acted": lambda cx: inbox.has_acted(cx, "m"),
    "inbox.forget_once": lambda cx: inbox.forget_once(cx, "m"),
    "journal.get_saga": lambda cx: journal.get_saga(cx, SAGA),
    "journal.rows": lambda cx: journal.rows(cx, SAGA),
    "journal.length": lambda cx: journal.length(cx, SAGA),
    "journal.calls_of": lambda cx: journal.calls_of(cx, SAGA),
    "journal.undos_of": lambda cx: journal.undos_of(cx, SAGA),
    "journal.unanswered": lambda cx: journal.unanswered(cx, AT, 10),
    "journal.first_unanswered": journal.first_unanswered,
    "journal.take_waiters": lambda cx: journal.take_waiters(cx, SAGA),
    "timers.due": lambda cx: timers.due(cx, AT, 10, sleeps_only=False),
    "timers.next_due": timers.next_due,
    "dead.get": lambda cx: dead.get(cx, 1),
    "dead.by_message": lambda cx: dead.by_message(cx, "m"),
    "dead.count_open": dead.count_open,
    "fence.get": lambda cx: fence.get(cx, "s"),
    "applied.get": lambda cx: applied.get(cx, "op"),
}


def plans(connection: Connection, statements: Iterable[str]) -> list[str]:
    return [
        row[3]
        for sql in statements
        for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
    ]


@pytest.mark.parametrize("name", WORKED_OFTEN)
def test_what_runs_for_each_message_reads_by_an_index(connection: Connection, name: str) -> None:
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    WORKED_OFTEN[name](connection)
    connection.set_trace_callback(None)
    found = plans(connection, [sql for sql in seen if not sql.startswith(("BEGIN", "COMMIT"))])
    scans = [plan for plan in found if plan.startswith("SCAN") and " INDEX " not in plan]
    assert not scans


def test_a_call_that_is_asked_and_taken_back_in_one_batch_leaves_no_row(
    connection: Connection,
) -> None:
    batch = Batch(connection, "orders", AT)
    call = call_row(saga=SAGA, due_at=AT)
    batch.defer(SAGA, journal.OPEN_CALL, msgspec.structs.astuple(call))
    batch.defer(SAGA, journal.SAVE_CALL, journal.call_changes(call))
    batch.defer(SAGA, journal.CLOSE_CALL, (SAGA, call.pos))
    batch.write_out()
    assert timers.due(connection, AT, 10, sleeps_only=False) == []
