"""Reading while others write: one consistent view, ended whatever happens, and errors made ours.

What is read is tested with the command line, which shows it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd.errors import Unavailable
from outboxd.store.connection import Connection, open_reader
from outboxd.store.reading import amounts, is_control, is_store, snapshot
from tests.factories import AT


def test_a_snapshot_sees_one_moment(connection: Connection, tmp_path: Path) -> None:
    reader = open_reader(tmp_path / "payments.db")
    count = "SELECT COUNT(*) FROM outboxd_meta WHERE key = 'x'"
    with snapshot(reader, "payments") as view:
        assert view.execute(count).fetchone() == (0,)
        connection.execute("INSERT INTO outboxd_meta VALUES ('x', 1)")
        assert view.execute(count).fetchone() == (0,)
    assert reader.execute(count).fetchone() == (1,)
    reader.close()


def test_a_snapshot_ends_with_its_block_however_that_ends(connection: Connection) -> None:
    with pytest.raises(KeyError), snapshot(connection, "payments"):
        raise KeyError
    assert not connection.in_transaction
    with snapshot(connection, "payments") as view:
        view.execute("COMMIT")
    assert not connection.in_transaction


def test_an_error_of_sqlite_is_ours_outside_a_snapshot(connection: Connection) -> None:
    with (
        pytest.raises(Unavailable, match=r"payments was written by another version.*no such table"),
        snapshot(connection, "payments") as view,
    ):
        view.execute("SELECT * FROM nowhere")
    assert not connection.in_transaction


def test_a_store_is_told_from_another_database(connection: Connection) -> None:
    assert is_store(connection)
    assert not is_control(connection)
    connection.execute("CREATE TABLE request (id)")
    assert not is_control(connection)
    connection.execute("CREATE TABLE catalog (type)")
    assert is_control(connection)


def test_a_settled_stream_has_no_rows(connection: Connection) -> None:
    connection.execute("INSERT INTO outboxd_stream VALUES ('a', 9), ('b', 3)")
    connection.executemany(
        "INSERT INTO outboxd_outbox VALUES ('b', ?, 'm', ?, x'')", [(2, AT + 5), (3, AT + 9)]
    )
    found = amounts.streams(connection)
    assert [(row.stream, row.last, row.rows) for row in found] == [("a", 9, 0), ("b", 3, 2)]
    assert amounts.outbox_oldest_at(connection, found) == AT + 5
