"""The outbox alone: an application's own transaction decides what is sent, in whatever language."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from outboxd import Command, ConfigError, Event, Outbox, Participant, Refused, Tx
from outboxd.monitor import Monitor
from outboxd.testing import Harness, running, wait_until

pytestmark = pytest.mark.anyio


class Ordered(Event, source="app", key="id"):
    id: str
    n: int = 0


class Ship(Command[None], to="log", key="id"):
    id: str
    n: int = 0


class Foreign(Event, source="elsewhere", key="id"):
    id: str


def a_log() -> Participant:
    log = Participant("log", schema="CREATE TABLE seen (id TEXT, n INTEGER, what TEXT) STRICT")

    @log.handle
    def ordered(tx: Tx, event: Ordered) -> None:
        tx.execute("INSERT INTO seen VALUES (?, ?, 'ordered')", (event.id, event.n))

    @log.handle
    def ship(tx: Tx, command: Ship) -> None:
        tx.execute("INSERT INTO seen VALUES (?, ?, 'ship')", (command.id, command.n))

    return log


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """The application's own connection, with nothing of outboxd in it."""
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY) STRICT")
        yield connection


def relaying(harness: Harness, path: Path) -> Outbox:
    return Outbox(path, name="app", stream=harness.stream)


async def seen(harness: Harness, count: int) -> list[tuple[str, int, str]]:
    async def all_of_it() -> list[tuple[str, int, str]] | None:
        rows = await harness.rows("log", "SELECT id, n, what FROM seen ORDER BY rowid")
        return rows if len(rows) >= count else None

    return await wait_until(all_of_it)


async def subscribed(outbox: Outbox) -> None:
    """Until the log's subscription has come: from then on its events are kept."""
    path = outbox.path

    def is_there() -> bool:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT COUNT(*) FROM outboxd_subscriber").fetchone()[0]
        return bool(found)

    await wait_until(is_there)


async def test_what_is_committed_arrives_and_what_is_rolled_back_does_not(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with running(a_log()) as harness, relaying(harness, path) as outbox:
        await subscribed(outbox)
        with connected(path) as app:
            for n, end in enumerate(("COMMIT", "ROLLBACK", "COMMIT")):
                app.execute("BEGIN IMMEDIATE")
                app.execute("INSERT INTO orders VALUES (?)", (str(n),))
                outbox.add(app, Ordered(id="a", n=n))
                outbox.add(app, Ship(id="a", n=n))
                app.execute(end)
            assert app.execute("SELECT COUNT(*) FROM orders").fetchone() == (2,)
        await outbox.drained()
        rows = await seen(harness, 4)
        assert app is not None
    assert [row for row in rows if row[2] == "ordered"] == [
        ("a", 0, "ordered"),
        ("a", 2, "ordered"),
    ]
    assert [row for row in rows if row[2] == "ship"] == [("a", 0, "ship"), ("a", 2, "ship")]


async def test_another_language_needs_one_insert(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with connected(path) as app:
        app.execute(Outbox.schema)  # the relay need not have run before
        app.execute(
            "INSERT INTO outboxd_send (type, key, data, recipient) "
            "VALUES ('Ship', 'x', '{\"id\": \"x\", \"n\": 7}', 'log')"
        )
    async with running(a_log()) as harness, relaying(harness, path) as outbox:
        assert await seen(harness, 1) == [("x", 7, "ship")]
        await outbox.drained()
    with connected(path) as app:
        assert app.execute("SELECT COUNT(*) FROM outboxd_send").fetchone() == (0,)
        assert app.execute("SELECT COUNT(*) FROM outboxd_outbox").fetchone() == (0,)


@pytest.mark.parametrize(
    ("column", "value"),
    [("type", ""), ("data", ""), ("data", "[1]"), ("recipient", ""), ("recipient", "No Such")],
)
def test_what_could_never_travel_is_refused_to_the_writer(
    tmp_path: Path, column: str, value: str
) -> None:
    row = {"type": "Ship", "data": "{}", "recipient": "log"} | {column: value}
    with connected(tmp_path / "app.db") as app:
        app.execute(Outbox.schema)
        with pytest.raises(sqlite3.IntegrityError):
            app.execute(
                "INSERT INTO outboxd_send (type, data, recipient) VALUES (?, ?, ?)",
                tuple(row.values()),
            )


async def test_what_is_too_big_stays_with_a_reason_and_blocks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with running(a_log()) as harness, relaying(harness, path) as outbox:
        with connected(path) as app:
            insert = "INSERT INTO outboxd_send (type, key, data, recipient) VALUES (?, ?, ?, 'log')"
            app.execute(insert, ("Ship", "x", f'{{"id": "{"x" * 2_000_000}"}}'))
            app.execute(insert, ("Ship", "k" * 5000, '{"id": "y"}'))
            app.execute(insert, ("Ship", "j", '{"id": }'))
            app.execute(insert, ("Ship", "z", '{"id": "z"}'))
            await seen(harness, 1)
            reasons = app.execute("SELECT refused FROM outboxd_send ORDER BY n").fetchall()
        await outbox.drained()
    assert "bytes; the limit is" in reasons[0][0]
    assert reasons[1][0].startswith("its key has 5,000 characters")
    assert reasons[2][0].startswith("its data is no JSON object")


async def test_a_restart_goes_on_and_sends_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with running(a_log()) as harness:
        for n in range(3):
            with connected(path) as app:
                app.execute(Outbox.schema)
                outbox = Outbox(path, name="app", stream=harness.stream)
                outbox.add(app, Ship(id="x", n=n))
            async with outbox:
                await outbox.drained()
        assert await seen(harness, 3) == [("x", n, "ship") for n in range(3)]


async def test_the_application_keeps_its_version_and_others_can_look(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with connected(path) as app:
        app.execute("PRAGMA user_version = 42")
    async with running(a_log()) as harness, relaying(harness, path) as outbox:
        with Monitor(outbox.data) as monitor:
            assert monitor.participants() == ["app"]
            assert monitor.audit() == []
    with connected(path) as app:
        assert app.execute("PRAGMA user_version").fetchone() == (42,)


async def test_one_process_relays_a_file_and_a_directory_has_one_file(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with running(a_log()) as harness, relaying(harness, path) as outbox:
        with pytest.raises(Refused, match="another outboxd"):
            async with Outbox(path, name="app", stream=harness.stream):
                pass
        other = Outbox(tmp_path / "b.db", name="app", data=outbox.data, stream=harness.stream)
        with pytest.raises(Refused, match=r"belongs to .*app\.db, not to .*b\.db"):
            await other.__aenter__()


async def test_an_event_of_another_source_is_not_ours_to_publish(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "app.db", name="app")
    with (
        connected(tmp_path / "app.db") as app,
        pytest.raises(ConfigError, match="published by elsewhere, not by app"),
    ):
        outbox.add(app, Foreign(id="1"))


async def test_what_the_block_raises_is_raised(tmp_path: Path) -> None:
    async with running(a_log()) as harness:
        with pytest.raises(KeyError, match="mine"):
            async with relaying(harness, tmp_path / "app.db"):
                raise KeyError("mine")
