"""The writer lane: what waits together commits together; what fails alone is undone alone."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from outboxd.errors import ConfigError, OutboxdError, StoreBroken, Unavailable
from outboxd.store.connection import (
    BATCH,
    Connection,
    Database,
    is_infrastructure,
    mapped,
    open_reader,
    open_writer,
    sqlite_version,
)
from tests.conftest import wait_until
from tests.store.conftest import pumped

pytestmark = pytest.mark.anyio

Work = Callable[[Connection], Any]


def put(text: str) -> Work:
    """Writes one note; returns its text."""

    def work(connection: Connection) -> str:
        connection.execute("INSERT INTO note VALUES (?)", (text,))
        return text

    return work


def notes(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT text FROM note ORDER BY rowid")]


def limit_pages(spare: int) -> Work:
    """From now on the file may grow by ``spare`` pages only."""

    def work(connection: Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + spare}")

    return work


def fill(connection: Connection) -> None:
    """More than any limit of these tests allows."""
    connection.execute("INSERT INTO note VALUES (?)", ("x" * 1_000_000,))


class Gate:
    """A function that holds the writer lane until it is opened."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self._opened = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.has_begun.set()
        assert self._opened.wait(10)

    def open(self) -> None:
        self._opened.set()


async def at_once(database: Database, *works: Work) -> list[Any]:
    """What came of functions that were queued at one moment: a value or an exception for each."""
    results: list[Any] = [None] * len(works)

    async def one(place: int, work: Work) -> None:
        try:
            results[place] = await database.write(work)
        except Exception as err:
            results[place] = err

    async with anyio.create_task_group() as tasks:
        for place, work in enumerate(works):
            tasks.start_soon(one, place, work)
    return results


async def together(database: Database, *works: Work) -> list[Any]:
    """The same for functions that had to wait, and so surely share a transaction."""
    results: list[Any] = []
    gate = Gate()

    async def queue() -> None:
        results.extend(await at_once(database, *works))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, gate)
        await wait_until(gate.has_begun.is_set, "the lane is held")
        tasks.start_soon(queue)
        await anyio.wait_all_tasks_blocked()
        gate.open()
    return results


# One transaction for whoever waits.


async def test_writes_that_wait_together_share_a_commit(database: Database) -> None:
    before = database.commits
    assert await together(database, *(put(f"n{i}") for i in range(10))) == [
        f"n{i}" for i in range(10)
    ]
    assert database.commits == before + 2  # the one that held the lane, and all others


async def test_a_commit_is_shared_by_a_bounded_number_of_writes(database: Database) -> None:
    before = database.commits
    await together(database, *(put(f"n{i}") for i in range(BATCH + 1)))
    assert database.commits == before + 3


async def test_writes_run_in_the_order_in_which_they_were_asked_for(database: Database) -> None:
    wanted = [f"n{i}" for i in range(20)]
    await together(database, *map(put, wanted))
    assert await database.read(notes) == wanted


async def test_a_write_is_answered_after_its_commit_and_unseen_before(database: Database) -> None:
    gate = Gate()

    def slow(connection: Connection) -> None:
        put("a")(connection)
        gate(connection)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, slow)
        await wait_until(gate.has_begun.is_set, "the function has written")
        assert await database.read(notes) == []
        gate.open()
    assert await database.read(notes) == ["a"]


async def test_an_exception_undoes_its_own_function_and_no_other(database: Database) -> None:
    oops = KeyError("oops")
    before = (database.commits, database.rollbacks)

    def fails(connection: Connection) -> None:
        put("lost")(connection)
        raise oops

    results = await together(database, put("a"), fails, put("b"))
    assert results == ["a", oops, "b"]
    assert await database.read(notes) == ["a", "b"]
    assert (database.commits, database.rollbacks) == (before[0] + 2, before[1])


async def test_an_interrupt_in_a_function_reaches_its_caller(database: Database) -> None:
    def exits(connection: Connection) -> None:
        raise SystemExit(70)

    with pytest.raises(SystemExit):
        await database.write(exits)
    assert await database.write(put("a")) == "a"


async def test_a_violated_constraint_is_the_functions_own_error(database: Database) -> None:
    await database.write(put("a"))
    (error,) = await together(database, put("a"))
    assert isinstance(error, sqlite3.IntegrityError)
    assert await database.read(notes) == ["a"]


async def test_a_caller_that_is_cancelled_does_not_stop_the_others(database: Database) -> None:
    gate = Gate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, gate)
        await wait_until(gate.has_begun.is_set, "the lane is held")
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(database.write, put("a"))
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
            gate.open()
    assert await database.write(put("b")) == "b"
    assert await database.read(notes) == ["a", "b"]


async def test_a_cancelled_pump_finishes_the_transaction_in_hand(tmp_path: Path) -> None:
    database = Database(tmp_path / "payments.db")
    await database.open()
    gate = Gate()

    def create(connection: Connection) -> str:
        connection.execute("CREATE TABLE done (x)")
        gate(connection)
        return "done"

    results: list[str] = []

    async def ask() -> None:
        results.append(await database.write(create))

    async with anyio.create_task_group() as tasks, anyio.create_task_group() as pump:
        pump.start_soon(database.run)
        tasks.start_soon(ask)
        await wait_until(gate.has_begun.is_set, "the transaction is open")
        pump.cancel_scope.cancel()
        gate.open()
    assert results == ["done"]
    assert database.commits == 1
    await database.close()


async def test_without_its_pump_nobody_waits_for_a_commit(tmp_path: Path) -> None:
    database = Database(tmp_path / "payments.db")
    await database.open()
    async with anyio.create_task_group() as pump:
        pump.start_soon(database.run)
        await anyio.wait_all_tasks_blocked()
        pump.cancel_scope.cancel()
    with anyio.fail_after(15), pytest.raises(Unavailable, match="is closed"):
        await database.write(put("a"))
    await database.close()


async def test_a_slow_function_does_not_hold_up_another_database(
    database: Database, tmp_path: Path
) -> None:
    gate = Gate()
    async with pumped(tmp_path / "orders.db") as other, anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, gate)
        await wait_until(gate.has_begun.is_set, "the lane is held")
        with anyio.fail_after(15):
            assert await other.write(put("a")) == "a"
        gate.open()


# The database refuses.


async def test_a_full_disk_fails_all_that_wait_together_and_keeps_nothing(
    database: Database,
) -> None:
    await database.write(put("before"))
    before = (database.commits, database.rollbacks)
    results = await together(database, limit_pages(2), put("a"), fill, put("b"))
    assert [type(result) for result in results] == [StoreBroken] * 4
    assert "SQLITE_FULL" in results[0].message
    assert results[0].hint == "free disk space or check the file"
    assert await database.read(notes) == ["before"]
    assert database.rollbacks > before[1]
    assert database.commits == before[0] + 1  # that of the one that held the lane


async def test_a_disk_with_room_again_is_written_to_again(database: Database) -> None:
    await together(database, limit_pages(2), fill)
    assert await database.write(put("small")) == "small"
    await database.write(lambda cx: cx.execute("PRAGMA max_page_count = 1073741823").fetchall())
    await database.write(fill)
    assert len(await database.read(notes)) == 2


async def test_a_full_disk_that_undoes_one_statement_fails_one_function(
    database: Database,
) -> None:
    """An INSERT of many rows has a journal of its own: SQLite keeps the transaction."""

    def fill_many(connection: Connection) -> None:
        connection.execute(
            "INSERT INTO note WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c "
            "LIMIT 100) SELECT hex(zeroblob(20000)) || i FROM c"
        )

    await database.write(limit_pages(2))
    first, failed, last = await together(database, put("a"), fill_many, put("b"))
    assert isinstance(failed, StoreBroken)
    assert (first, last) == ("a", "b")
    assert await database.read(notes) == ["a", "b"]


async def test_an_own_error_about_a_full_disk_fails_all_the_same(database: Database) -> None:
    def translates(connection: Connection) -> None:
        try:
            fill(connection)
        except sqlite3.Error:
            raise ValueError("could not write the note") from None

    results = await together(database, limit_pages(2), put("a"), translates)
    assert all(isinstance(result, Unavailable) for result in results)
    assert await database.read(notes) == []


async def test_a_function_that_ends_the_transaction_fails_all_of_it(database: Database) -> None:
    def ends_it(connection: Connection) -> None:
        connection.execute("ROLLBACK")

    before = database.rollbacks
    results = await together(database, put("a"), ends_it, put("b"))
    assert all(isinstance(result, Unavailable) for result in results)
    assert await database.read(notes) == []
    assert database.rollbacks > before


async def test_a_database_that_another_connection_holds_is_unavailable(
    database: Database, tmp_path: Path
) -> None:
    await database.write(lambda cx: cx.execute("PRAGMA busy_timeout = 20").fetchall())
    other = sqlite3.connect(tmp_path / "payments.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = database.rollbacks
    results = await at_once(database, put("a"), put("b"))
    assert [type(result) for result in results] == [Unavailable] * 2
    assert "SQLITE_BUSY" in results[0].message
    assert database.rollbacks == before + 1
    other.execute("ROLLBACK")
    other.close()
    assert await database.write(put("a")) == "a"


async def test_a_commit_that_fails_keeps_nothing(database: Database) -> None:
    """A constraint that is checked at COMMIT; ``migrate_participant`` lets none in."""

    def breaks_later(connection: Connection) -> None:
        connection.execute("CREATE TABLE parent (id PRIMARY KEY)")
        connection.execute(
            "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
        )
        connection.execute("INSERT INTO child VALUES (1)")

    before = database.rollbacks
    results = await together(database, put("a"), breaks_later)
    assert all(isinstance(result, Unavailable) for result in results)
    assert database.rollbacks == before + 1
    assert await database.read(notes) == []


async def test_a_damaged_file_is_a_broken_store(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"
    async with pumped(path) as database:
        await at_once(database, *(put(f"{i}" * 500) for i in range(50)))
    sound = path.read_bytes()
    path.write_bytes(sound[:4096] + b"\xab" * (len(sound) - 4096))
    database = Database(path)
    await database.open()
    with pytest.raises(StoreBroken, match="SQLITE_CORRUPT"):
        await database.read(notes)
    await database.close()


# Closing.


async def test_a_closed_database_refuses(tmp_path: Path) -> None:
    async with pumped(tmp_path / "payments.db") as database:
        pass
    with pytest.raises(Unavailable, match=r"payments\.db is closed"):
        await database.write(lambda cx: None)
    with pytest.raises(Unavailable):
        await database.read(lambda cx: cx.execute("SELECT 1"))
    await database.close()


async def test_a_database_that_was_never_opened_refuses_to_read(tmp_path: Path) -> None:
    database = Database(tmp_path / "payments.db")
    with pytest.raises(Unavailable, match="is closed"):
        await database.read(lambda cx: None)
    await database.close()


async def test_closing_refuses_what_is_queued_and_waits_for_what_runs(tmp_path: Path) -> None:
    database = Database(tmp_path / "payments.db")
    await database.open()
    gate, outcomes = Gate(), dict[str, object]()

    async def ask(name: str, work: Work) -> None:
        try:
            outcomes[name] = await database.write(work)
        except Unavailable as err:
            outcomes[name] = err.message

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.run)
        tasks.start_soon(ask, "running", gate)
        await wait_until(gate.has_begun.is_set, "the lane is held")
        tasks.start_soon(ask, "queued", lambda cx: "too late")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(database.close)
        await anyio.wait_all_tasks_blocked()
        gate.open()
    assert outcomes == {"running": None, "queued": "payments.db is closed"}


async def test_closing_wakes_an_idle_pump(tmp_path: Path) -> None:
    database = Database(tmp_path / "payments.db")
    await database.open()
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.run)
            await anyio.wait_all_tasks_blocked()
            await database.close()


# The watchdog's view.


async def test_a_busy_lane_says_since_when_and_in_which_thread(database: Database) -> None:
    seen: dict[str, Any] = {}

    def look(connection: Connection) -> None:
        busy = database.busy
        assert busy is not None
        seen.update(thread=busy.thread, ident=threading.get_ident())
        since, busy.since = busy.since, busy.since - 100
        database.beat()
        seen.update(is_fresh=busy.since >= since)

    await database.write(look)
    assert seen["thread"] == seen["ident"] != threading.get_ident()
    assert seen["is_fresh"]
    assert database.busy is None
    database.beat()


# Connections.


async def test_a_read_sees_one_moment_whatever_is_committed_meanwhile(
    database: Database,
) -> None:
    has_looked, is_written = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> list[list[str]]:
        first = notes(connection)
        has_looked.set()
        assert is_written.wait(10)
        return [first, notes(connection)]

    async def write() -> None:
        await anyio.to_thread.run_sync(has_looked.wait, 10)
        await database.write(put("a"))
        is_written.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        assert await database.read(look_twice) == [[], []]
    assert await database.read(notes) == ["a"]


async def test_a_read_that_fails_is_over(database: Database) -> None:
    def fail(connection: Connection) -> None:
        notes(connection)
        raise ValueError("no use for it")

    with pytest.raises(ValueError, match="no use"):
        await database.read(fail)
    await database.write(put("a"))
    assert await database.read(notes) == ["a"]


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable, match="SQLITE_READONLY"):
        await database.read(put("a"))


def test_every_pragma_is_really_set(connection: Connection) -> None:
    def pragma(name: str) -> Any:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1
    assert pragma("busy_timeout") == 5000
    assert pragma("trusted_schema") == 0
    assert pragma("journal_size_limit") == 64 * 1024 * 1024


def test_a_database_that_will_not_keep_a_log_is_refused() -> None:
    with pytest.raises(ConfigError, match="PRAGMA journal_mode is memory, not wal"):
        open_writer(Path(":memory:"))


def test_a_reader_reads_only(connection: Connection, tmp_path: Path) -> None:
    reader = open_reader(tmp_path / "payments.db")
    assert reader.execute("PRAGMA query_only").fetchone()[0] == 1
    assert reader.execute("PRAGMA busy_timeout").fetchone()[0] == 5000
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("CREATE TABLE x (y)")
    reader.close()


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_a_folder_that_is_not_there_is_a_mistake_of_configuration(
    opened: Callable[[Path], Connection], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot open") as refused:
        opened(tmp_path / "nowhere" / "payments.db")
    assert refused.value.hint == "check that the data directory exists and is writable"


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_a_file_that_is_no_database_is_refused(
    opened: Callable[[Path], Connection], tmp_path: Path
) -> None:
    path = tmp_path / "payments.db"
    path.write_bytes(b"this is a letter, not a database " * 100)
    with pytest.raises(ConfigError, match="is no SQLite database or is damaged") as refused:
        opened(path)
    assert refused.value.hint == "restore a backup"


async def test_a_database_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await Database(tmp_path / "nowhere" / "payments.db").open()


def test_a_path_with_odd_characters_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a b?c#d%20é.db"
    open_writer(path).close()
    open_reader(path).close()
    assert path.is_file()


# Whose fault it is.


def sqlite_error(name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("so it is")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("name", "kind", "is_ours"),
    [
        ("SQLITE_FULL", StoreBroken, True),
        ("SQLITE_IOERR_WRITE", StoreBroken, True),
        ("SQLITE_CORRUPT_INDEX", StoreBroken, True),
        ("SQLITE_NOTADB", StoreBroken, True),
        ("SQLITE_READONLY_DBMOVED", StoreBroken, True),
        ("SQLITE_BUSY", Unavailable, True),
        ("SQLITE_BUSY_SNAPSHOT", Unavailable, True),
        ("SQLITE_LOCKED", Unavailable, True),
        ("SQLITE_NOMEM", Unavailable, True),
        ("SQLITE_CONSTRAINT_UNIQUE", Unavailable, False),
        ("SQLITE_ERROR", Unavailable, False),
    ],
)
def test_an_error_of_sqlite_is_told_apart_by_its_name(
    name: str, kind: type[OutboxdError], is_ours: bool
) -> None:
    error = mapped(sqlite_error(name), "payments.db")
    assert type(error) is kind
    assert error.message == f"payments.db: so it is ({name})"
    assert is_infrastructure(sqlite_error(name)) is is_ours


def test_an_error_without_a_name_is_no_fault_of_the_database() -> None:
    assert not is_infrastructure(sqlite3.ProgrammingError("closed"))
    assert not is_infrastructure(ValueError("SQLITE_FULL"))
    assert mapped(sqlite3.ProgrammingError("closed"), "x").message == "x: closed (ProgrammingError)"


def test_the_version_of_the_library_is_known() -> None:
    assert sqlite_version() == sqlite3.sqlite_version
