"""The outbox: numbers without gaps whatever is rolled back, deletes by range, delayed sends."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.store import outbox
from outboxd.store.connection import Connection, Database
from outboxd.store.outbox import OutRow
from outboxd.store.schema import migrate_own
from tests.factories import AT
from tests.store.conftest import pumped

IN, EVENTS = "outboxd:{payments}:in", "outboxd:{orders}:events"


def send(connection: Connection, *streams: str) -> list[OutRow]:
    """One row per stream named, as a batch does it: numbers go on from what the store knows."""
    last = outbox.last_numbers(connection)
    messages = [(stream, f"m-{i}", b"{}") for i, stream in enumerate(streams)]
    return outbox.add(connection, last, messages, AT)


def numbers(connection: Connection, stream: str) -> list[int]:
    return [row.seq for row in outbox.after(connection, stream, 0, 1000)]


def test_each_stream_is_numbered_from_one_without_gaps(connection: Connection) -> None:
    rows = send(connection, IN, EVENTS, IN) + send(connection, IN)
    assert [(row.stream, row.seq) for row in rows] == [(IN, 1), (EVENTS, 1), (IN, 2), (IN, 3)]
    assert outbox.last_numbers(connection) == {IN: 3, EVENTS: 1}


def test_the_numbers_in_memory_move_along(connection: Connection) -> None:
    last = {IN: 7}
    (row,) = outbox.add(connection, last, [(IN, "m", b"x")], AT)
    assert (row, last) == (OutRow(IN, 8, b"x"), {IN: 8})


def test_nothing_to_send_changes_nothing(connection: Connection) -> None:
    assert outbox.add(connection, {}, [], AT) == []
    assert outbox.last_numbers(connection) == {}


def test_numbers_go_on_after_all_rows_are_settled(connection: Connection) -> None:
    send(connection, IN, IN)
    outbox.settle(connection, [(IN, 2)])
    assert [row.seq for row in send(connection, IN)] == [3]


class Undone(Exception):
    pass


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from([IN, EVENTS]), max_size=5), st.booleans()), max_size=12
    )
)
def test_numbers_have_no_gaps_over_functions_that_were_rolled_back(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[list[str], bool]]
) -> None:
    async def scenario(path: Path) -> None:
        async with pumped(path) as database:
            await database.write(migrate_own)
            async with anyio.create_task_group() as tasks:
                for streams, fails in batches:
                    tasks.start_soon(attempt, database, streams, fails)
            for stream in (IN, EVENTS):
                kept = sum(streams.count(stream) for streams, fails in batches if not fails)
                found = await database.read(lambda cx, s=stream: numbers(cx, s))  # type: ignore[misc]
                assert found == list(range(1, kept + 1))

    async def attempt(database: Database, streams: list[str], fails: bool) -> None:
        def work(connection: Connection) -> None:
            send(connection, *streams)
            if fails:
                raise Undone

        try:
            await database.write(work)
        except Undone:
            assert fails

    anyio.run(scenario, tmp_path_factory.mktemp("outbox") / "orders.db")


def test_rows_are_read_in_order_from_a_number_on(connection: Connection) -> None:
    send(connection, *[IN] * 5, EVENTS)
    assert [row.seq for row in outbox.after(connection, IN, 2, 2)] == [3, 4]
    assert [row.seq for row in outbox.after(connection, IN, 5, 2)] == []


def test_a_row_keeps_its_bytes(connection: Connection) -> None:
    body = b'{"x":"\x00\xff"}'
    outbox.add(connection, {}, [(IN, "m", body)], AT)
    assert outbox.after(connection, IN, 0, 1) == [OutRow(IN, 1, body)]


def test_rows_are_settled_up_to_a_number_of_their_own_stream(connection: Connection) -> None:
    send(connection, *[IN] * 4, *[EVENTS] * 4)
    outbox.settle(connection, [(IN, 2), (EVENTS, 4)])
    assert numbers(connection, IN) == [3, 4]
    assert numbers(connection, EVENTS) == []
    outbox.settle(connection, [(IN, 1), ("outboxd:{nobody}:in", 9)])
    assert numbers(connection, IN) == [3, 4]


def test_what_is_not_settled_is_known_by_its_ends(connection: Connection) -> None:
    assert outbox.unsettled(connection) == {}
    send(connection, *[IN] * 4, EVENTS)
    outbox.settle(connection, [(IN, 1), (EVENTS, 1)])
    assert outbox.unsettled(connection) == {IN: (2, 4)}


def test_a_new_epoch_numbers_what_is_not_settled_from_one_in_the_same_order(
    connection: Connection,
) -> None:
    for body in (b"a", b"b", b"c", b"d"):
        outbox.add(connection, outbox.last_numbers(connection), [(IN, "m", body)], AT)
    send(connection, EVENTS)
    outbox.settle(connection, [(IN, 2), (EVENTS, 1)])
    outbox.renumber(connection)
    assert outbox.after(connection, IN, 0, 10) == [OutRow(IN, 1, b"c"), OutRow(IN, 2, b"d")]
    assert outbox.last_numbers(connection) == {IN: 2}


# Delayed.


def test_a_delayed_message_sets_out_when_it_is_due(connection: Connection) -> None:
    outbox.delay(connection, "m-1", IN, AT + 10, b"x")
    assert outbox.next_due(connection) == AT + 10
    assert outbox.take_due(connection, AT + 9, 10) == []
    assert outbox.take_due(connection, AT + 10, 10) == [(IN, "m-1", b"x")]
    assert outbox.take_due(connection, AT + 10, 10) == []
    assert outbox.next_due(connection) is None


def test_delayed_messages_set_out_earliest_first_and_a_bounded_number_at_a_time(
    connection: Connection,
) -> None:
    for message_id, due in (("late", 3), ("early", 1), ("middle", 2)):
        outbox.delay(connection, message_id, IN, AT + due, b"")
    assert [row[1] for row in outbox.take_due(connection, AT + 9, 2)] == ["early", "middle"]
    assert [row[1] for row in outbox.take_due(connection, AT + 9, 2)] == ["late"]


def test_two_delayed_messages_of_one_id_both_set_out_as_they_were_sent(
    connection: Connection,
) -> None:
    outbox.delay(connection, "m-1", IN, AT + 10, b"first")
    outbox.delay(connection, "m-1", IN, AT + 10, b"second")
    first = outbox.take_due(connection, AT + 99, 1)
    assert first == [(IN, "m-1", b"first")]
    assert outbox.take_due(connection, AT + 99, 9) == [(IN, "m-1", b"second")]
