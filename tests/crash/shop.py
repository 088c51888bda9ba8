"""The running example in processes of its own, and what may be done to it: kill, freeze, look."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from outboxd import monitor
from outboxd.registry import Registry
from plugins.inventory import inventory
from plugins.notifications import notifications
from plugins.orders import orders
from plugins.payments import payments
from plugins.shipping import shipping
from tests.crash import feed
from tests.crash.process import PATIENCE_S, Ended, Run, is_alive, processes_in, wait_for

NAMES = ("orders", "payments", "inventory", "shipping", "notifications")
REGISTRY = Registry([orders, payments, inventory, shipping, notifications])

GROUPS = 6
"""Five inboxes, and the events of orders that notifications reads."""

NODE_ENTRIES = 100
"""Trimming is coarse: a stream keeps up to one node of acked entries."""

_BUSINESS = """
SELECT name FROM sqlite_master WHERE type = 'table'
AND name NOT LIKE 'outboxd\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
"""

Row = tuple[Any, ...]


class Shop:
    """One data directory. ``run`` starts the command, ``finish`` repeats it as systemd would.

    folder: a short one, the path of a socket must fit; lines: the feed.
    """

    def __init__(self, folder: Path, lines: Sequence[str]) -> None:
        self.folder = folder
        self.data = folder / "d"
        self.feed = folder / "feed.jsonl"
        self.command = [sys.executable, "-m", "tests.crash.brisk"]
        self.plugins = ["plugins"]
        self.options: list[str] = []
        self.env: dict[str, str] = {}
        self.runs: list[Run] = []
        self.put(lines)

    def put(self, lines: Sequence[str]) -> None:
        """The feed from now on."""
        self.wanted = feed.expected(lines)
        self.feed.write_text("\n".join(lines) + "\n", encoding="utf-8")

    # Processes.

    def outboxd(self, *words: str) -> Ended:
        """One command on the data directory, to its end."""
        return self.start(*words, "--data", str(self.data)).ended()

    def run(self, *, until_idle: bool = True, is_fed: bool = True) -> Run:
        """The daemon."""
        fed = ["--feed", str(self.feed)] if is_fed else []
        idle = ["--until-idle"] if until_idle else []
        place = ["--data", str(self.data)]
        return self.start("run", *self.plugins, *place, *self.options, *fed, *idle)

    def finish(self) -> Ended:
        """The same command, which must end with 0."""
        return self.ends_cleanly(self.run())

    def ends_cleanly(self, run: Run) -> Ended:
        """With 0, and without leaving a broker."""
        ended = run.ended()
        assert ended.code == 0, ended
        wait_for(lambda: not processes_in(self.folder), "the end of the broker")
        return ended

    def holder(self) -> int | None:
        """The process that has the data directory; from then on it heeds signals."""
        try:
            return int((self.data / "lock").read_text())
        except (OSError, ValueError):
            return None

    def start(self, *words: str) -> Run:
        """Any command of outboxd."""
        run = Run(self.folder / f"run-{len(self.runs)}", [*self.command, *words], self.env)
        self.runs.append(run)
        return run

    def close(self) -> None:
        """Ends whatever is left, by force."""
        for run in self.runs:
            if run.is_running:
                run.kill()
        for pid in processes_in(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: not is_alive(pid), f"the end of {pid}")  # type: ignore[misc]

    # The broker.

    @property
    def socket(self) -> Path:
        return self.data / "broker" / "sock"

    def broker_pid(self) -> int | None:
        """The embedded broker's process, if one lives; its number may be another's by now."""
        try:
            pid = int((self.data / "broker" / "pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if pid in processes_in(self.folder) else None

    def signal_broker(self, number: signal.Signals) -> None:
        """Nothing where there is none."""
        pid = self.broker_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextlib.contextmanager
    def stranger(self) -> Iterator[redis.Redis]:
        """Somebody else's connection to the embedded broker."""
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=PATIENCE_S)
        try:
            yield client
        finally:
            client.close()

    # What is in the files.

    def progress(self) -> int:
        """Grows whenever the courier is called or a saga ends."""
        return self.courier_lines() + self.ended_sagas()

    def rows(self, name: str, query: str) -> list[Row]:
        """Reads one database; nothing where it, or the table, is not there yet."""
        path = self.data / f"{name}.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE_S)
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "unable to open" in str(error):
                return []
            raise
        finally:
            connection.close()

    def databases(self) -> list[str]:
        """The names of all files of SQLite."""
        return sorted(path.name for path in self.data.glob("*.db"))

    def ended_sagas(self) -> int:
        found = self.rows("orders", "SELECT count(*) FROM outboxd_saga WHERE ended_at IS NOT NULL")
        return int(found[0][0]) if found else 0

    def is_done(self) -> bool:
        """Every order has ended, and nothing is held or on its way."""
        rest = ("SELECT 1 FROM outboxd_inbox LIMIT 1", "SELECT 1 FROM outboxd_outbox LIMIT 1")
        return self.ended_sagas() == len(self.wanted.orders) and not any(
            self.rows(name, query) for name in NAMES for query in rest
        )

    def courier_lines(self) -> int:
        path = self.data / "courier.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def booked(self) -> list[str]:
        """The courier's own book: for each live booking the order's id."""
        lines = list(map(json.loads, (self.data / "courier.jsonl").read_text().splitlines()))
        cancelled = {line["cancelled"] for line in lines if "cancelled" in line}
        bookings = [line for line in lines if line.get("booked") not in {None, *cancelled}]
        assert len({line["booked"] for line in bookings}) == len(bookings), "one key, two bookings"
        return [line["order_id"] for line in bookings]

    def business(self) -> dict[str, list[Row]]:
        """Every table of the participants themselves."""
        return {
            f"{name}.{table}": sorted(self.rows(name, f"SELECT * FROM {table}"), key=repr)
            for name in NAMES
            for (table,) in self.rows(name, _BUSINESS)
        }

    def log(self) -> str:
        """The whole log of all runs so far."""
        path = self.data / "log" / "outboxd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def letters(self, name: str) -> list[Row]:
        """(key, type, state, error) of a participant's dead letters."""
        return self.rows(name, "SELECT key, type, state, error FROM outboxd_dead")

    def complaints(self) -> list[str]:
        """A sentence for whatever is not as it must be, once everything is at rest."""
        said = [violation.text for violation in monitor.audit(self.data)]
        said += monitor.check_invariants(self.data, REGISTRY)
        return said + self._wrong_orders() + self._leftovers() + self._wrong_letters()

    def _wrong_orders(self) -> list[str]:
        states = {
            row[0]: row[1] for row in self.rows("orders", "SELECT order_id, state FROM orders")
        }
        charged = [row[0] for row in self.rows("payments", "SELECT order_id FROM ledger")]
        return feed.complaints(self.wanted, states, self.booked(), charged)

    def _leftovers(self) -> list[str]:
        said = []
        for name in NAMES:
            for table in ("outbox", "inbox", "delayed", "call", "waiter"):
                left = self.rows(name, f"SELECT * FROM outboxd_{table} LIMIT 3")
                said += [f"{name}: left in {table}: {row}" for row in left]
            undos = self.rows(name, "SELECT * FROM outboxd_undo WHERE state <> 'done' LIMIT 3")
            said += [f"{name}: not undone: {row}" for row in undos]
            once = self.rows(
                name,
                "SELECT id, name FROM outboxd_once"
                " WHERE id NOT IN (SELECT id FROM outboxd_dead WHERE state = 'dead') LIMIT 3",
            )
            said += [f"{name}: an effect is remembered for nothing: {row}" for row in once]
        return said

    def _wrong_letters(self) -> list[str]:
        """The mail without @ is the only one."""
        mails = self.letters("notifications")
        said = [f"{n}: a letter: {row}" for n in NAMES[:-1] for row in self.letters(n)]
        if sorted(row[0] for row in mails) != sorted(self.wanted.unmailed):
            said.append(f"letters of mails: {mails}, not {self.wanted.unmailed}")
        return said


@contextlib.contextmanager
def open_shop(lines: Sequence[str] | None = None) -> Iterator[Shop]:
    """A shop in a folder of its own, by default with the whole example; nothing of it is left."""
    shop = Shop(Path(tempfile.mkdtemp(prefix="ox")), feed.example() if lines is None else lines)
    try:
        yield shop
    finally:
        shop.close()
        shutil.rmtree(shop.folder, ignore_errors=True)


def assert_right(shop: Shop, how: object = "") -> None:
    """Every order ended right, every invariant holds, nothing is left anywhere."""
    said = shop.complaints()
    assert not said, "\n".join([str(how), *said[:20]])


def assert_drained(shop: Shop) -> None:
    """A run without a feed changes nothing, and finds every stream read and acked."""
    before = shop.business()
    stop_when_drained(shop, shop.run(until_idle=False, is_fed=False))
    assert shop.business() == before


def stop_when_drained(shop: Shop, run: Run) -> Ended:
    """Waits until no order is open and no entry is unread, unacked or untrimmed; then SIGTERM."""
    wait_for(shop.is_done, "the end of all orders", run)
    wait_for(shop.socket.exists, "the broker's socket", run)
    with shop.stranger() as broker:
        wait_for(lambda: not undelivered(broker), "all streams drained", run)
        wait_for(lambda: not _untrimmed(broker), "all inboxes trimmed", run)
    run.signal(signal.SIGTERM)
    return shop.ends_cleanly(run)


def streams_of(broker: redis.Redis) -> list[bytes]:
    """The keys of all streams of outboxd."""
    return list(broker.scan_iter("outboxd:*", _type="stream"))


def undelivered(broker: redis.Redis) -> list[Any]:
    """Groups that have not read or acked everything."""
    try:
        groups = [(key, group) for key in streams_of(broker) for group in broker.xinfo_groups(key)]
    except redis.RedisError as error:
        return [error]
    if len(groups) < GROUPS:
        return [f"only {len(groups)} groups"]
    return [found for found in groups if found[1]["pending"] or found[1]["lag"]]


def _untrimmed(broker: redis.Redis) -> list[bytes]:
    """Inboxes that keep more than they need."""
    return [k for k in streams_of(broker) if k.endswith(b":in") and broker.xlen(k) > NODE_ENTRIES]
