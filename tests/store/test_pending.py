"""What waits costs nothing while it waits: SQLite's own steps are counted, not time."""

from __future__ import annotations

from msgspec.structs import astuple

from outboxd.store import early, journal, timers
from outboxd.store.connection import Connection
from outboxd.store.early import Early
from tests.factories import AT, call_row


def work_of(connection: Connection, count: int) -> tuple[int, int]:
    """Steps of SQLite's machine for one look at ``count`` timers, and for one early message."""
    calls = (
        call_row(saga=f"desk/trip/{n}", kind="receive", name="Word", key=f"{n}", due_at=AT + n)
        for n in range(count)
    )
    connection.execute("BEGIN")
    connection.executemany(journal.OPEN_CALL.sql, map(astuple, calls))
    for n in range(count // 100):
        early.add(connection, Early("trip", "Word", f"{n}", AT, b"{}", 1))
    connection.execute("COMMIT")
    ticks = [0]

    def tick() -> int:
        ticks[0] += 1
        return 0

    connection.set_progress_handler(tick, 1)
    timers.next_due(connection)
    timers.due(connection, AT - 1, 200, sleeps_only=False)
    timers.due(connection, AT - 1, 200, sleeps_only=True)
    looked = ticks[0]
    assert early.awaiting(connection, "Word", "7") == [("desk/trip/7", 1)]
    assert early.take(connection, "trip", "Word", "7") is not None
    connection.set_progress_handler(None, 0)
    return looked, ticks[0] - looked


def test_pending_timers_and_receives_cost_nothing_while_they_wait(
    connection: Connection,
) -> None:
    """As much work for twenty thousand as for a thousand: an index, and no row that waits."""
    few = work_of(connection, 1_000)
    connection.execute("DELETE FROM outboxd_call")
    connection.execute("DELETE FROM outboxd_early")
    many = work_of(connection, 20_000)
    assert many[0] <= few[0] + 5
    assert many[1] <= few[1] + 20
