"""The read model: health, the list of sagas, one of them, letters, and why something waits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from outboxd.errors import ConfigError, NotFound
from outboxd.monitor import Health, Monitor, SagaDetail
from outboxd.monitor.filtering import SAGA_FIELDS, parse
from outboxd.store.reading.filters import Term
from tests.cli import filling
from tests.cli.filling import HOUR, MINUTE, Still, store

NOBODY = 2**22 + 1
"""No process has this id: it is above the highest that Linux gives out."""


@pytest.fixture
def monitor(shop: Path) -> Iterator[Monitor]:
    with Monitor(shop, Still()) as found:
        yield found


def health(monitor: Monitor, name: str) -> Health:
    return next(h for h in monitor.overview().participants if h.participant == name)


# Health.


def test_where_outboxd_never_ran_there_is_nothing_to_see(workplace: Path) -> None:
    (workplace / "stranger.db").touch()
    with Monitor(workplace) as monitor, pytest.raises(ConfigError, match="no outboxd data"):
        monitor.overview()


def test_each_participant_is_counted(monitor: Monitor) -> None:
    payments = health(monitor, "payments")
    assert (payments.waiting, payments.retrying, payments.running, payments.held) == (1, 1, 1, 0)
    assert (payments.outbox, payments.letters) == (0, 1)
    assert payments.letters_oldest_at is not None
    assert payments.letters_oldest_at.timestamp() == pytest.approx(filling.now() - HOUR)
    assert payments.next_what == "retry"
    orders = health(monitor, "orders")
    assert orders.outbox == 1
    assert orders.outbox_oldest_at is not None
    assert orders.outbox_oldest_at.timestamp() == pytest.approx(filling.now() - 30)
    assert orders.sagas == {
        "stuck": 1,
        "compensating": 1,
        "running": 4,
        "completed": 1,
        "compensated": 1,
        "cancelled": 0,
    }
    assert (orders.next_what, orders.next_at is not None) == ("deadline", True)


@pytest.mark.parametrize(
    ("note", "state"),
    [
        ({}, "up"),
        ({"at": time.time() - HOUR}, "silent"),
        ({"pid": NOBODY}, "up"),  # of another container, perhaps
    ],
)
def test_a_daemon_is_up_while_it_says_so(shop: Path, note: dict[str, object], state: str) -> None:
    with filling.daemon(shop, **note), Monitor(shop) as monitor:
        assert monitor.daemon().state == state


def test_a_daemon_that_was_killed_is_down_at_once(shop: Path) -> None:
    with filling.daemon(shop):
        note = (shop / "daemon.json").read_bytes()
    (shop / "daemon.json").write_bytes(note)
    with Monitor(shop) as monitor:
        assert monitor.daemon().state == "down"


def test_without_a_note_or_with_a_torn_one_no_daemon_runs(shop: Path) -> None:
    with Monitor(shop) as monitor:
        assert monitor.overview().problems == ("the daemon does not run",)
        (shop / "daemon.json").write_text('{"pid": 1')
        assert monitor.daemon().state == "down"


def test_problems_are_sentences(shop: Path) -> None:
    daemon = filling.daemon(
        shop,
        broker={"state": "down", "since": time.time() - 12, "error": "connection refused"},
        problems=["payments: its store is another one"],
    )
    with daemon, Monitor(shop) as monitor:
        problems = monitor.overview().problems
    assert problems == (
        "the broker is unreachable for 12s: connection refused",
        "payments: its store is another one",
    )


def test_a_silent_daemon_is_a_problem(shop: Path) -> None:
    with filling.daemon(shop, at=time.time() - HOUR), Monitor(shop) as monitor:
        [problem] = monitor.overview().problems
    assert problem == f"the daemon (pid {os.getpid()}) has said nothing for 60m"


def test_a_change_by_another_process_is_noticed_once(shop: Path, monitor: Monitor) -> None:
    monitor.has_changed()
    assert not monitor.has_changed()
    with store(shop, "orders") as connection:
        filling.saga(connection, "new")
    assert monitor.has_changed()
    assert not monitor.has_changed()
    with store(shop, "shipping"):
        pass
    assert monitor.has_changed()


# The list of sagas.


def keys(monitor: Monitor, text: str = "", limit: int = 50) -> list[str]:
    return [row.key for row in monitor.sagas(text, limit).rows]


def test_trouble_comes_first_and_the_ended_last(monitor: Monitor) -> None:
    page = monitor.sagas()
    assert [(row.key, row.state) for row in page.rows] == [
        ("10431", "stuck"),
        ("10502", "compensating"),
        ("10519", "retrying"),
        ("10388", "overdue"),
        ("10530", "running"),
        ("10401", "waiting"),
        ("10300", "completed"),
        ("10301", "compensated"),
    ]
    assert (page.matching, page.total) == (8, 8)


def test_a_retry_is_shown_where_it_happens(monitor: Monitor) -> None:
    [row] = monitor.sagas("state:retrying").rows
    assert (row.tries, row.error) == (3, "CardTimeout: no answer from card-gw after 5.0 s")
    assert row.next_at is not None
    assert row.next_at.timestamp() == pytest.approx(filling.now() + 12)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("state:stuck,waiting", ["10431", "10401"]),
        ("state:!done", ["10431", "10502", "10519", "10388", "10530", "10401", "10301"]),
        ("!state:open", ["10300", "10301"]),
        ("state:ended", ["10300", "10301"]),
        ("state:!running,waiting,ended", ["10431", "10502", "10519", "10388"]),
        ("key:104", ["10431", "10401"]),
        ("type:fulfil key:10530", ["10530"]),
        ("type:refund", []),
        ("step:sleep", ["10401"]),
        ("LIMIT", ["10502", "10301"]),
        ("error:limit state:compensated", ["10301"]),
        ("10519", ["10519"]),
        ("!10 payments", []),
        ("participant:orders state:stuck", ["10431"]),
        ("participant:payments", []),
        ("age:>30m state:stuck", ["10431"]),
        ("age:<30m", []),
        ("since:2h state:stuck", ["10431"]),
    ],
)
def test_a_filter_says_which(monitor: Monitor, text: str, found: list[str]) -> None:
    assert keys(monitor, text) == found


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("stat:stuck", "did you mean state:?"),
        ("zebra:1", "fields: age, error, id"),
        ("state:stuk", "states: cancelled, compensated"),
        ("age:old", "write it like 250ms"),
        ("try:2", "fields:"),
    ],
)
def test_a_filter_that_is_wrong_is_explained(monitor: Monitor, text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        monitor.sagas(text)
    assert hint in str(caught.value.hint)


def test_a_filter_is_words_and_fields() -> None:
    assert parse("a,b !type:c key:!d age:>5m", SAGA_FIELDS) == [
        Term("", ("a", "b")),
        Term("type", ("c",), True),
        Term("key", ("d",), True),
        Term("age", (300.0,), False, ">"),
    ]


def test_a_short_list_still_begins_with_trouble(shop: Path) -> None:
    """Retrying and overdue ones are found among any number that merely run."""
    with store(shop, "orders") as connection:
        for number in range(300):
            key = f"old-{number}"
            saga_id = filling.saga(connection, key, started_at=filling.now() - 5 * HOUR)
            filling.call(connection, saga_id)
    with Monitor(shop, Still()) as monitor:
        assert keys(monitor, "", 5) == ["10431", "10502", "10519", "10388", "old-0"]
        assert keys(monitor, "state:retrying", 1) == ["10519"]
        page = monitor.sagas("key:old", 10)
        assert (len(page.rows), page.matching, page.total) == (10, 300, 308)


# One saga.


def test_a_saga_is_found_by_id_or_by_key(monitor: Monitor) -> None:
    assert monitor.find_saga("orders/fulfil/10431") == "orders/fulfil/10431"
    assert monitor.find_saga("10431") == "orders/fulfil/10431"
    with pytest.raises(NotFound, match="there is no saga 1"):
        monitor.find_saga("1")


def test_a_key_of_two_sagas_is_not_guessed(shop: Path, monitor: Monitor) -> None:
    with store(shop, "orders") as connection:
        filling.saga(connection, "10431", id="orders/refund/10431", name="refund")
    with pytest.raises(ConfigError, match="several sagas have the key 10431") as caught:
        monitor.find_saga("10431")
    assert "orders/refund/10431" in str(caught.value.hint)


def test_a_finished_saga_tells_its_steps(monitor: Monitor) -> None:
    detail = monitor.saga("10300")
    [step] = detail.steps
    assert (step.name, step.to, step.state) == ("AuthorizePayment", "payments", "done")
    assert step.took_s == pytest.approx(MINUTE)
    assert step.text == '{"cents":4990}'
    assert [row.kind for row in detail.history] == ["call", "ok", "ended"]
    assert detail.history[1].since_s == pytest.approx(MINUTE)
    assert (detail.waits_for, detail.moves) == ((), ())
    assert detail.result is not None
    assert bytes(detail.result) == b'{"shipment":"s-1"}'


def test_what_went_wrong_comes_before_the_letter_that_a_narrow_column_cuts(
    monitor: Monitor,
) -> None:
    [row] = monitor.sagas("state:stuck").rows
    assert row.error == "CardTimeout: no answer (payments/d-1)"


def test_a_stuck_saga_names_its_letter_and_what_moves_it(monitor: Monitor) -> None:
    detail = monitor.saga("10431")
    assert [(step.name, step.state) for step in detail.steps] == [
        ("create_order", "done"),
        ("AuthorizePayment", "stuck"),
    ]
    assert detail.steps[1].failed_tries == 3
    [waits] = detail.waits_for
    assert "for payments: AuthorizePayment (orders/fulfil/10431#2)" in waits
    assert "has been dead letter d-1 for 60m: CardTimeout: no answer" in waits
    assert detail.moves == (
        "outboxd dead replay d-1",
        "outboxd dead discard d-1",
        "outboxd saga skip orders/fulfil/10431",
        "outboxd saga cancel orders/fulfil/10431",
        "outboxd saga resolve orders/fulfil/10431 completed",
        "outboxd saga resolve orders/fulfil/10431 compensated",
        "outboxd saga kill orders/fulfil/10431",
    )


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("10519", "failed there 3 times and is tried again in"),
        ("10530", "has run there for"),
        ("10388", "is on its way; its deadline passed 60s ago"),
        ("10401", "for time to pass: it sleeps and wakes in 2h"),
        ("10502", "for payments: VoidPayment (orders/fulfil/10502#2~undo) is there and waits"),
    ],
)
def test_what_a_saga_waits_for_is_said_in_words(monitor: Monitor, key: str, said: str) -> None:
    with filling.daemon(monitor.data):
        [waits] = monitor.saga(key).waits_for
    assert said in waits


def waits_of(data: Path, **stuck: object) -> SagaDetail:
    with store(data, "orders") as connection:
        filling.saga(connection, "1", "stuck", **stuck)
    with Monitor(data) as monitor:
        return monitor.saga("1")


def test_a_bug_waits_for_a_fix_and_a_retry(data: Path) -> None:
    detail = waits_of(data, stuck="bug", detail="Traceback …\n  File …\nKeyError: 'sku'")
    assert detail.waits_for == ("for a person: its code failed: KeyError: 'sku'",)
    assert detail.moves[0] == "outboxd saga retry orders/fulfil/1"
    assert detail.saga.error == "KeyError: 'sku'"


def test_past_the_point_of_no_return_nothing_is_cancelled(data: Path) -> None:
    detail = waits_of(data, stuck="forward", detail="Capture was rejected: no", is_forward=1)
    assert detail.waits_for == (
        "for a person: it can only go forward, and Capture was rejected: no",
    )
    assert detail.moves == (
        "outboxd saga retry orders/fulfil/1",
        "outboxd saga resolve orders/fulfil/1 completed",
        "outboxd saga resolve orders/fulfil/1 compensated",
        "outboxd saga kill orders/fulfil/1",
    )


def test_changed_code_shows_both_sides(data: Path) -> None:
    said = "step 2: the journal has call A, the code asks for call B (step 2)"
    detail = waits_of(data, stuck="code changed", detail=said)
    assert detail.waits_for == (f"for a person: its code no longer fits its journal: {said}",)


def test_where_a_call_is_on_its_way_is_known(data: Path) -> None:
    with store(data, "orders") as connection:
        filling.sent(connection, 2)
        for key, message_id in (("1", "payments-2"), ("2", "answered"), ("3", "behind")):
            filling.call(connection, filling.saga(connection, key), id=message_id)
        filling.held(
            connection, "answered:ok", attempts=2, error="KeyError: 'a'", due_at=filling.now() + 9
        )
        elsewhere = filling.saga(connection, "4")
        filling.call(connection, elsewhere, to_name="shipping", name="Ship")
    with store(data, "payments") as connection:
        filling.held(connection, "first", state="running", attempts=1, started_at=filling.now())
        filling.held(connection, "behind")
        filling.insert(connection, "fence", id="answered", state="done", at=filling.now())
    with Monitor(data, Still()) as monitor:
        said = [monitor.saga(key).waits_for[0] for key in ("1", "2", "3", "4")]
    assert "is in the outbox of orders for 30s: not yet there" in said[0]
    assert "is answered; the answer failed there 2 times and is tried again in 9.00s" in said[1]
    assert "is there, behind AuthorizePayment (first) of the same key" in said[2]
    assert "was taken by shipping, which has no data here; it has not answered" in said[3]


def test_what_operators_did_is_part_of_the_story(shop: Path) -> None:
    with store(shop, "orders") as connection:
        filling.insert(
            connection,
            "applied",
            id="op-1",
            at=filling.now(),
            kind="saga.cancel",
            target="orders/fulfil/10431",
            who="ada",
            reason="twice",
            result="done",
        )
    with Monitor(shop) as monitor:
        [operation] = monitor.saga("10431").operations
    assert (operation.did, operation.who, operation.reason) == ("saga.cancel", "ada", "twice")


def test_the_saga_that_a_message_started_is_found_over_its_rounds(data: Path) -> None:
    with store(data, "orders") as connection:
        filling.saga(connection, "1", "completed")
        start = filling.envelope("m-2", "PlaceOrder")
        filling.saga(connection, "1", id="orders/fulfil/1@2", round=2, start=start)
    with Monitor(data) as monitor:
        assert monitor.started_by("orders", "1", "m-1") == "orders/fulfil/1"
        assert monitor.started_by("orders", "1", "m-2") == "orders/fulfil/1@2"
        assert monitor.started_by("orders", "1", "other") == "orders/fulfil/1@2"
        assert monitor.started_by("orders", "2", "m-1") is None
        assert monitor.started_by("nobody", "1", "m-1") is None


# Dead letters.


@pytest.fixture
def letters(data: Path) -> Iterator[Monitor]:
    """Letters of two participants; both have a d-1."""
    with store(data, "payments") as connection:
        filling.letter(connection, "a", key="1")
        filling.letter(connection, "b", key="2", error_type="KeyError", error="'sku'", attempts=1)
        filling.letter(connection, "c", state="discarded", reason="obsolete")
        filling.letter(connection, "d", state="replaying", at=filling.now() - 5 * HOUR)
    with store(data, "orders") as connection:
        filling.letter(connection, "e", handler="orders.fulfil", body=b"\xff no envelope")
    with Monitor(data) as monitor:
        yield monitor


def names(monitor: Monitor, text: str = "") -> list[str]:
    return sorted(row.name for row in monitor.letters(text).rows)


def test_a_letter_is_called_by_its_number_and_by_its_owner_where_two_have_one(
    letters: Monitor,
) -> None:
    assert names(letters) == ["d-2", "d-4", "orders/d-1", "payments/d-1"]
    assert letters.find_letter("d-2") == ("payments", 2)
    assert letters.find_letter("2") == ("payments", 2)
    assert letters.find_letter("orders/d-1") == ("orders", 1)
    with pytest.raises(ConfigError, match="several participants have a letter d-1") as caught:
        letters.find_letter("d-1")
    assert caught.value.hint == "say which: orders/d-1, payments/d-1"
    with pytest.raises(NotFound, match="no dead letter d-9"):
        letters.find_letter("d-9")
    with pytest.raises(NotFound, match="no dead letter nobody/d-1"):
        letters.find_letter("nobody/d-1")
    with pytest.raises(ConfigError, match="'first' is no dead letter"):
        letters.find_letter("first")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("state:discarded", ["d-3"]),
        ("keyerror", ["d-2"]),
        ("handler:orders", ["orders/d-1"]),
        ("participant:payments try:>2", ["d-4", "payments/d-1"]),
        ("try:1", ["d-2"]),
        ("since:3h", ["d-2", "orders/d-1", "payments/d-1"]),
        ("key:2", ["d-2"]),
        ("d-2", ["d-2"]),
    ],
)
def test_letters_are_filtered(letters: Monitor, text: str, found: list[str]) -> None:
    assert names(letters, text) == found


def test_what_can_be_replayed_is_counted_over_all_that_match(letters: Monitor) -> None:
    assert letters.letter_numbers("") == [("orders", 1), ("payments", 1), ("payments", 2)]
    assert letters.letter_numbers("handler:payments cardtimeout") == [("payments", 1)]
    assert letters.letters("", 1).live == 4


def test_letters_are_grouped_by_cause(letters: Monitor) -> None:
    groups = letters.letter_groups()
    assert [(g.handler, g.error_type, g.letters) for g in groups] == [
        ("payments.authorize", "CardTimeout", 2),
        ("orders.fulfil", "CardTimeout", 1),
        ("payments.authorize", "KeyError", 1),
    ]


def test_a_letter_shows_message_attempts_and_what_settles_it(monitor: Monitor) -> None:
    detail = monitor.letter("d-1")
    assert detail.envelope["type"] == "AuthorizePayment"
    assert detail.data == {"order_id": "1"}
    assert detail.text is None
    assert [(a.n, a.outcome) for a in detail.attempts] == [
        (1, "again in 2.00 s"),
        (2, "again in 4.00 s"),
        (3, "gave up"),
    ]
    assert "CardTimeout" in detail.traceback
    assert detail.letter.saga == "orders/fulfil/10431"
    assert detail.moves == ("outboxd dead replay d-1", "outboxd dead discard d-1")


def test_what_is_no_envelope_is_shown_as_it_is(letters: Monitor) -> None:
    detail = letters.letter("orders/d-1")
    assert (detail.envelope, detail.data) == ({}, None)
    assert detail.text == "� no envelope"
    assert letters.letter("d-3").moves == ()


# Why.


def test_why_answers_for_sagas_letters_and_messages(monitor: Monitor) -> None:
    assert (monitor.why("10431").kind, monitor.why("10431").state) == ("saga", "stuck")
    letter = monitor.why("d-1")
    assert (letter.kind, letter.state) == ("letter", "dead")
    assert letter.waits_for[1] == "the saga orders/fulfil/10431 waits for it"
    message = monitor.why("orders/fulfil/10519#2")
    assert message.kind == "message"
    assert message.waits_for[0].startswith("for payments: it failed there 3 times")
    assert monitor.why("payments-8").waits_for[0].startswith("for outboxd:{payments}:in: in the")
    dead = monitor.why("orders/fulfil/10431#2")
    assert dead.moves == ("outboxd dead replay d-1", "outboxd dead discard d-1")
    with pytest.raises(NotFound, match="nothing here waits under the name 'zebra'"):
        monitor.why("zebra")
