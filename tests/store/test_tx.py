"""The transaction in a handler's hand: rows in, messages collected, and no way to end it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest

from outboxd.errors import OutboxdError, SagaMisuse
from outboxd.message import Command, decode_data, events_stream, in_stream
from outboxd.store.connection import Connection
from outboxd.tx import Db, Step, Tx
from tests.factories import AT, TIME, Paid, Pay, Reserve, envelope


class Ownerless(Command[None]):  # type: ignore[call-arg]
    pass


@pytest.fixture
def tx(connection: Connection) -> Tx:
    connection.execute("CREATE TABLE charge (id TEXT UNIQUE, cents INTEGER) STRICT")
    cause = envelope(Pay(), correlationid="orders/fulfil/o-1", traceparent="00-a-b-01")
    return Tx(connection, "payments", cause, AT)


def test_a_statement_gives_its_rows_and_how_many_it_changed(tx: Tx) -> None:
    assert tx.execute("INSERT INTO charge VALUES (?, ?), (?, ?)", ("a", 1, "b", 2)).changed == 2
    rows = tx.execute("SELECT * FROM charge ORDER BY id")
    assert rows == [("a", 1), ("b", 2)]
    assert tx.execute("UPDATE charge SET cents = 0 WHERE id = :id", {"id": "a"}).changed == 1


def test_one_statement_is_run_for_many_rows(tx: Tx) -> None:
    assert tx.executemany("INSERT INTO charge VALUES (?, ?)", [("a", 1), ("b", 2)]) == 2


def test_the_first_row_and_the_first_value_have_their_own_ways(tx: Tx) -> None:
    assert tx.one("SELECT * FROM charge") is None
    assert tx.value("SELECT cents FROM charge") is None
    tx.execute("INSERT INTO charge VALUES ('a', 7)")
    assert tx.one("SELECT * FROM charge") == ("a", 7)
    assert tx.value("SELECT cents FROM charge WHERE id = ?", ["a"]) == 7


def test_rows_that_a_statement_returns_are_read_before_the_next(tx: Tx) -> None:
    rows = tx.execute("INSERT INTO charge VALUES ('a', 1) RETURNING cents + 1")
    assert rows == [(2,)]


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "commit",
        "  \n ROLLBACK",
        "END",
        "BEGIN IMMEDIATE",
        "SAVEPOINT x",
        "RELEASE message",
        "ROLLBACK TO message",
        "ATTACH 'x.db' AS x",
        "DETACH x",
        "VACUUM",
        "PRAGMA synchronous = 0",
        "-- done\nCOMMIT",
        "/* done */ COMMIT",
        ";COMMIT",
        "INSERT OR ROLLBACK INTO charge VALUES ('a', 1)",
        "UPDATE OR ROLLBACK charge SET id = 'a'",
    ],
)
def test_the_transaction_is_not_the_handlers_to_end(tx: Tx, sql: str) -> None:
    for run in (lambda: tx.execute(sql), lambda: tx.executemany(sql, [()])):
        with pytest.raises(SagaMisuse, match="is not a handler's"):
            run()


def test_a_handler_that_swallows_a_full_disk_writes_nothing_more(
    tx: Tx, connection: Connection
) -> None:
    """SQLite ends the whole transaction then: what comes after would stay without its message."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.Error, match="full"):
        tx.execute("INSERT INTO charge VALUES (?, 1)", ("x" * 100_000,))
    assert not connection.in_transaction
    with pytest.raises((OutboxdError, SagaMisuse, sqlite3.Error)):
        tx.execute("INSERT INTO charge VALUES ('small', 1)")
    assert connection.execute("SELECT * FROM charge").fetchall() == []


@pytest.mark.parametrize(
    "sql", ["SELECT 1 AS begin_at", "WITH x AS (SELECT 1) SELECT * FROM x", "SELECT 'COMMIT'"]
)
def test_a_statement_that_only_names_it_passes(tx: Tx, sql: str) -> None:
    assert len(tx.execute(sql)) == 1


def test_an_event_is_collected_for_our_own_stream(tx: Tx) -> None:
    tx.publish(Paid(cents=5))
    (out,) = tx.outgoing
    assert (out.stream, out.due_at) == (events_stream("payments"), None)
    assert decode_data(out.envelope.data, Paid) == Paid(cents=5)
    assert msgspec.structs.asdict(out.envelope) == {
        **msgspec.structs.asdict(envelope(Paid())),
        "id": "m-1.payments.1",
        "source": "payments",
        "correlationid": "orders/fulfil/o-1",
        "causationid": "m-1",
        "traceparent": "00-a-b-01",
        "data": out.envelope.data,
    }


def test_a_command_is_collected_for_its_owners_stream(tx: Tx) -> None:
    tx.send(Reserve())
    tx.send(Reserve(), delay="10s")
    first, second = tx.outgoing
    assert (first.stream, first.due_at) == (in_stream("inventory"), None)
    assert (second.stream, second.due_at) == (in_stream("inventory"), AT + 10)
    assert [out.envelope.id for out in tx.outgoing] == ["m-1.payments.1", "m-1.payments.2"]
    assert first.envelope.kind == "command"


def test_ids_go_on_where_an_earlier_part_of_the_message_ended(connection: Connection) -> None:
    tx = Tx(connection, "payments", envelope(), AT, first=5)
    tx.publish(Paid())
    assert tx.outgoing[0].envelope.id == "m-1.payments.5"
    assert tx.outgoing[0].envelope.correlationid == "m-1"


def test_a_command_without_owner_cannot_be_sent(tx: Tx) -> None:
    with pytest.raises(SagaMisuse, match="Ownerless has no owner"):
        tx.send(Ownerless())
    assert tx.outgoing == []


def test_a_handler_knows_its_message_and_its_moment(connection: Connection) -> None:
    step = Step("m-0", True, msgspec.Raw(b"1"))
    tx = Tx(connection, "payments", envelope(idempotencykey="k"), AT, attempt=3, step=step)
    assert (tx.message_id, tx.key, tx.attempt, tx.step) == ("m-1", "o-1", 3, step)
    assert tx.idempotency_key == "k"
    assert tx.now == TIME
    assert isinstance(tx.now, datetime)
    assert Tx(connection, "payments", envelope(), AT).idempotency_key == "m-1"


@pytest.mark.parametrize(
    "use",
    [
        lambda tx: tx.execute("SELECT 1"),
        lambda tx: tx.executemany("SELECT 1", []),
        lambda tx: tx.one("SELECT 1"),
        lambda tx: tx.value("SELECT 1"),
        lambda tx: tx.publish(Paid()),
        lambda tx: tx.send(Reserve()),
    ],
)
def test_a_transaction_that_is_over_refuses_use(tx: Tx, use: Callable[[Tx], Any]) -> None:
    tx.close()
    with pytest.raises(SagaMisuse, match="this transaction is over"):
        use(tx)


def test_a_handler_does_not_read_another_participants_database(tx: Tx) -> None:
    with pytest.raises(SagaMisuse, match="only an invariant"):
        tx.of("orders")


def test_an_invariant_may_read_another_participants_database(connection: Connection) -> None:
    asked: list[str] = []

    def others(name: str) -> Connection:
        asked.append(name)
        return connection

    other = Db(connection, others).of("orders")
    assert other.value("SELECT 1") == 1
    assert asked == ["orders"]
    with pytest.raises(SagaMisuse):
        other.of("payments")
