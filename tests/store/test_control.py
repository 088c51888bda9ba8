"""control.db: requests reach the daemon once, in order, from any number of processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from outboxd.errors import ConfigError, Refused
from outboxd.store import control
from outboxd.store.connection import Connection, Database, open_writer
from outboxd.store.control import CatalogEntry, Request


def request(request_id: str = "op-1", **fields: Any) -> Request:
    usual = Request(
        id=request_id, at=1.0, kind="saga.retry", participant="orders", target="orders/fulfil/1"
    )
    return msgspec.structs.replace(usual, **fields)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory in which a daemon has made control.db."""
    connection = open_writer(tmp_path / control.FILE)
    control.prepare(connection)
    connection.close()
    return tmp_path


def test_a_request_comes_back_as_it_was_added(data: Path) -> None:
    asked = request(args=b'{"letters":[1,2]}', who="ada", reason="fixed")
    with control.client(data) as connection:
        assert control.add_request(connection, asked) == asked
        assert control.get(connection, "op-1") == asked
        assert control.get(connection, "op-2") is None


def test_the_same_request_again_is_no_second_one(data: Path) -> None:
    with control.client(data) as connection:
        control.add_request(connection, request(who="ada"))
        again = control.add_request(connection, request(who="bob", at=2.0))
        assert again.who == "ada"
        assert len(control.requests(connection, 10)) == 1


@pytest.mark.parametrize("change", [{"target": "orders/fulfil/2"}, {"args": b"[1]"}, {"kind": "x"}])
def test_an_id_that_was_used_for_something_else_is_refused(
    data: Path, change: dict[str, Any]
) -> None:
    with control.client(data) as connection:
        control.add_request(connection, request())
        with pytest.raises(Refused, match="op-1 was used before"):
            control.add_request(connection, request(**change))


def test_requests_wait_in_the_order_in_which_they_came(data: Path) -> None:
    with control.client(data) as connection:
        for name in ("b", "a", "c"):
            control.add_request(connection, request(name, at=0.0))
        control.mark(connection, "a", "applied", "done", 5.0)
        assert [r.id for r in control.pending(connection, 10)] == ["b", "c"]
        assert [r.id for r in control.pending(connection, 1)] == ["b"]
        assert [r.id for r in control.requests(connection, 10)] == ["c", "a", "b"]
        assert [r.id for r in control.requests(connection, 10, "applied")] == ["a"]


def test_the_first_verdict_stays(data: Path) -> None:
    with control.client(data) as connection:
        control.add_request(connection, request())
        control.mark(connection, "op-1", "refused", "no such saga", 5.0)
        control.mark(connection, "op-1", "applied", "done", 6.0)
        found = control.get(connection, "op-1")
    assert found is not None
    assert (found.state, found.result, found.applied_at) == ("refused", "no such saga", 5.0)


def test_forgetting_spares_what_is_pending_or_new(data: Path) -> None:
    with control.client(data) as connection:
        for name in ("old", "new", "waiting"):
            control.add_request(connection, request(name))
        control.mark(connection, "old", "applied", "", 5.0)
        control.mark(connection, "new", "applied", "", 50.0)
        assert control.forget(connection, 10.0).rows == 1
        assert {r.id for r in control.requests(connection, 10)} == {"new", "waiting"}


def test_the_catalog_is_what_is_hosted_now(data: Path) -> None:
    old = CatalogEntry(type="Pay", participant="payments", kind="command")
    new = CatalogEntry(
        type="PlaceOrder", participant="orders", kind="saga", key_field="id", schema=b'{"a":1}'
    )
    with control.client(data) as connection:
        control.put_catalog(connection, [old])
        control.put_catalog(connection, [new])
        assert control.catalog(connection) == {"PlaceOrder": new}


def test_where_outboxd_never_ran_a_client_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no outboxd data") as caught, control.client(tmp_path):
        pass
    assert "--data" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / control.FILE).write_text("not a database, but long enough to look at " * 100)
    with pytest.raises(ConfigError, match="no SQLite database"), control.client(tmp_path):
        pass


def test_a_client_leaves_checkpoints_to_the_daemon(data: Path) -> None:
    with control.client(data) as connection:
        assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_failed_transaction_leaves_nothing(data: Path) -> None:
    def add_and_fail(connection: Connection) -> None:
        control.add_request(connection, request())
        raise ValueError("no")

    with control.client(data) as connection:
        with pytest.raises(ValueError, match="no"):
            control.transact(connection, add_and_fail)
        assert not connection.in_transaction
        assert control.requests(connection, 10) == []


@pytest.mark.anyio
async def test_the_daemon_sees_what_a_client_wrote_and_the_client_its_verdict(data: Path) -> None:
    database = Database(data / control.FILE)
    await database.open()
    async with anyio.create_task_group() as pump:
        pump.start_soon(database.run)
        await database.write(control.prepare)
        before = await database.read(control.data_version)
        with control.client(data) as client:
            control.transact(client, lambda c: control.add_request(c, request()))
            assert await database.read(control.data_version) != before
            [found] = await database.read(lambda c: control.pending(c, 10))
            seen = control.data_version(client)
            await database.write(lambda c: control.mark(c, found.id, "applied", "done", 7.0))
            assert control.data_version(client) != seen
            settled = control.get(client, "op-1")
        assert settled is not None
        assert settled.state == "applied"
        pump.cancel_scope.cancel()
        await database.close()


def test_many_processes_add_at_once(data: Path) -> None:
    """Each takes the lock before it reads, so none fails with a stale snapshot."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from outboxd import operate\n"
        "for n in range(20):\n"
        "    operate.retry(Path(sys.argv[1]), f'orders/fulfil/{sys.argv[2]}-{n}', reason='fixed')\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(data), str(number)])
        for number in range(4)
    ]
    assert [child.wait(timeout=50) for child in children] == [0, 0, 0, 0]
    with control.client(data) as connection:
        assert len(control.pending(connection, 1000)) == 80


def test_a_locked_database_is_unavailable_not_a_traceback(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outboxd.errors import Unavailable

    monkeypatch.setattr(control, "_BUSY_MS", 1)
    holder = sqlite3.connect(data / control.FILE, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"), control.client(data) as connection:
            control.transact(connection, lambda c: control.add_request(c, request()))
    finally:
        holder.close()
