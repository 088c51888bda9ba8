"""The running example in processes of its own, and what may be done to them: kill, freeze, look.

One ``Shop`` is one data directory in a short folder (a socket's path must fit). Nothing here waits
for an amount of time but ``a_moment``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis

from tests.crash import feed
from tests.crash.feed import ROOT, Expected

PATIENCE_S = 60.0
"""The longest wait for a condition; the machine may be busy with other things."""

LOOK_S = 0.01

CHECK_ONCE = False

NAMES = ("orders", "payments", "inventory", "shipping", "notifications")


class Ended(msgspec.Struct, frozen=True):
    """What a process left: its exit code and its words."""

    code: int
    out: str
    err: str


class Run:
    """One process of outboxd; its words go to files, so it never waits for a reader."""

    def __init__(self, folder: Path, name: str, command: Sequence[str], **env: str) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "TERM": "dumb", **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> Ended:
        """kill -9; whether it was still running is in the code."""
        self.process.kill()
        return self.ended()

    def ended(self, within_s: float = PATIENCE_S) -> Ended:
        """Waits for the end."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s:g} s:\n{self.err}") from None
        return Ended(code, self._out.read_text(errors="replace"), self.err)


class Shop:
    """``run`` starts the command, ``finish`` repeats it as a service manager would."""

    def __init__(self, folder: Path, lines: Sequence[str]) -> None:
        self.folder = folder
        self.data = folder / "d"
        self.feed = folder / "feed.jsonl"
        self.plugins: list[str] = ["plugins"]
        self.options: list[str] = []
        self.env: dict[str, str] = {}
        self.runs: list[Run] = []
        self.place(lines)

    def place(self, lines: Sequence[str]) -> None:
        """The feed from now on."""
        self.wanted = feed.expected(lines)
        self.feed.write_text("\n".join(lines) + "\n", encoding="utf-8")

    # Processes.

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "outboxd", *words]

    def outboxd(self, *words: str) -> Ended:
        """One command on the data directory, to its end."""
        return self._start(self.command(*words, "--data", str(self.data))).ended()

    def run(self, *, until_idle: bool = True, is_fed: bool = True) -> Run:
        """The daemon."""
        fed = ["--feed", str(self.feed)] if is_fed else []
        idle = ["--until-idle"] if until_idle else []
        return self._start(
            self.command("run", *self.plugins, "--data", str(self.data), *self.options, *fed, *idle)
        )

    def finish(self, restarts: int = 0, *, is_fed: bool = True) -> Ended:
        """The same command until it ends with 0, at most so many times more."""
        for _ in range(restarts + 1):
            ended = self.run(is_fed=is_fed).ended()
            if ended.code == 0:
                return ended
        raise AssertionError(f"ended with {ended.code} at last:\n{ended.out}\n{ended.err}")

    def _start(self, command: Sequence[str]) -> Run:
        run = Run(self.folder, f"run-{len(self.runs)}", command, **self.env)
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

    # The broker.

    @property
    def socket(self) -> Path:
        return self.data / "broker" / "sock"

    def broker_pid(self) -> int | None:
        """The embedded broker's process, if one lives."""
        try:
            pid = int((self.data / "broker" / "pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def signal_broker(self, number: signal.Signals) -> bool:
        """False if there was none."""
        pid = self.broker_pid()
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    @contextlib.contextmanager
    def broker(self) -> Iterator[redis.Redis]:
        """A stranger's connection to the embedded broker."""
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=PATIENCE_S)
        try:
            yield client
        finally:
            client.close()

    # What is in the files.

    def rows(self, name: str, query: str) -> list[tuple[Any, ...]]:
        """Reads one database; nothing where it, or the table, is not there yet."""
        path = self.data / f"{name}.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE_S)
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()

    def count(self, name: str, query: str) -> int:
        found = self.rows(name, f"SELECT count(*) FROM {query}")
        return int(found[0][0]) if found else 0

    @property
    def ended_sagas(self) -> int:
        return self.count("orders", "outboxd_saga WHERE ended_at IS NOT NULL")

    def booked(self) -> list[str]:
        """The courier's own book: an entry for each live booking, the order's id."""
        path = self.data / "courier.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        cancelled = {line["cancelled"] for line in lines if "cancelled" in line}
        bookings = [line for line in lines if line.get("booked") not in {None, *cancelled}]
        assert len({line["booked"] for line in bookings}) == len(bookings), "one key, two bookings"
        return [line["order_id"] for line in bookings]

    @property
    def courier_lines(self) -> int:
        path = self.data / "courier.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def business(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every table of the participants themselves, sorted."""
        found = {}
        for name in NAMES:
            tables = self.rows(
                name,
                "SELECT name FROM sqlite_master WHERE type = 'table'"
                " AND name NOT LIKE 'outboxd\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%'"
                " ESCAPE '\\'",
            )
            for (table,) in tables:
                found[f"{name}.{table}"] = sorted(self.rows(name, f"SELECT * FROM {table}"))
        return found

    def complaints(self) -> list[str]:
        """A sentence for whatever is not as it must be, once everything is at rest."""
        return [*self._wrong_orders(), *self._leftovers(), *self._audit()]

    def _wrong_orders(self) -> list[str]:
        states = dict(self.rows("orders", "SELECT order_id, state FROM orders"))
        charged = [row[0] for row in self.rows("payments", "SELECT order_id FROM ledger")]
        return feed.complaints(self.wanted, states, self.booked(), charged)

    def _leftovers(self) -> list[str]:
        said = []
        for name in NAMES:
            for table in ("outbox", "inbox", "delayed", "call", "waiter"):
                left = self.rows(name, f"SELECT * FROM outboxd_{table} LIMIT 3")
                said += [f"{name}: left in {table}: {row}" for row in left]
            once = self.rows(
                name,
                "SELECT id, name, state FROM outboxd_once"
                " WHERE id NOT IN (SELECT id FROM outboxd_dead WHERE state = 'dead') LIMIT 3",
            )
            said += [f"{name}: left in once: {row}" for row in once if CHECK_ONCE]
            undos = self.rows(name, "SELECT * FROM outboxd_undo WHERE state <> 'done' LIMIT 3")
            said += [f"{name}: not undone: {row}" for row in undos]
        return said + self._wrong_letters()

    def _wrong_letters(self) -> list[str]:
        letters = [
            (name, *row)
            for name in NAMES
            for row in self.rows(name, "SELECT key, type, state, error FROM outboxd_dead")
        ]
        dead = {row[1] for row in letters if row[0] == "notifications"}
        others = [f"a letter: {row}" for row in letters if row[0] != "notifications"]
        if dead != self.wanted.unmailed or len(letters) - len(others) != len(dead):
            others.append(f"letters of mails: {letters}, not {self.wanted.unmailed}")
        return others

    def _audit(self) -> list[str]:
        ended = self.outboxd("audit", *self.plugins)
        return [] if ended.code == 0 else [f"audit: {ended.code}: {ended.out} {ended.err}"]


def assert_right(shop: Shop) -> None:
    """Every order ended right, every invariant holds, nothing is left anywhere."""
    said = shop.complaints()
    assert not said, "\n".join(said[:20])


def assert_drained(shop: Shop) -> None:
    """A run that changes nothing finds every stream read and acked; it drains at SIGTERM."""
    before = shop.business()
    run = shop.run(until_idle=False, is_fed=False)
    with_streams(shop, run)
    run.signal(signal.SIGTERM)
    ended = run.ended()
    assert ended.code == 0, ended.err
    assert shop.broker_pid() is None
    assert shop.business() == before


def with_streams(shop: Shop, run: Run) -> None:
    """Waits until nothing is pending and nothing unread in any group."""
    wait_for(shop.socket.exists, "the broker's socket", run)
    with shop.broker() as broker:
        wait_for(lambda: not _undelivered(broker), "all streams drained", run)
        lengths = {key: broker.xlen(key) for key in _streams(broker)}
    assert max(lengths.values()) <= 200, lengths


def _streams(broker: redis.Redis) -> list[bytes]:
    return [key for key in broker.keys("outboxd:*") if broker.type(key) == b"stream"]


def _undelivered(broker: redis.Redis) -> list[Any]:
    try:
        streams = _streams(broker)
        groups = [(key, group) for key in streams for group in broker.xinfo_groups(key)]
    except redis.RedisError as error:
        return [error]
    wanted = 6  # five inboxes, and one publisher's events with a subscriber
    if len(groups) < wanted:
        return [f"only {len(groups)} groups"]
    return [(key, g) for key, g in groups if g["pending"] or g["lag"]]


def wait_for(
    condition: Callable[[], bool], what: str, run: Run | None = None, within_s: float = PATIENCE_S
) -> None:
    """Looks until it holds; a process that ends meanwhile will not make it hold any more."""
    give_up = time.monotonic() + within_s
    while not condition():
        if run is not None and not run.is_running and not condition():
            raise AssertionError(f"{what}: the process ended first:\n{run.ended()}")
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {within_s:g} s: {what}{'' if not run else run.err}")
        a_moment(LOOK_S)


def a_moment(seconds: float) -> None:
    """The one place here where time passes by itself: between two looks, or before a blow."""
    threading.Event().wait(seconds)


class Fate:
    """When a blow falls: drawn from a seeded generator, so that a bad moment can be found again."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def await_moment(self, shop: Shop, run: Run) -> str:
        """Lets the run get a little further, or its start; what it waited for, in words."""
        draw = self.rng.random()
        if draw < 0.25:
            return self._after_a_delay(run)
        if draw < 0.6:
            return self._after(run, lambda: shop.courier_lines, "lines of the courier", 50)
        return self._after(run, lambda: shop.ended_sagas, "ended sagas", 50)

    def _after_a_delay(self, run: Run) -> str:
        delay_s = self.rng.uniform(0.0, 1.2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(delay_s)
        return f"{delay_s:.2f} s"

    def _after(self, run: Run, count: Callable[[], int], what: str, most: int) -> str:
        more = self.rng.randint(1, most)
        target = count() + more
        while run.is_running and count() < target:
            a_moment(LOOK_S / 2)
        return f"{more} more {what}"


def processes_in(folder: Path) -> list[int]:
    """The living processes whose working directory lies in a folder: brokers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
    return found


@contextlib.contextmanager
def open_shop(lines: Sequence[str] | None = None) -> Iterator[Shop]:
    """A shop in a folder of its own; no process and no file of it is left."""
    shop = Shop(Path(tempfile.mkdtemp(prefix="ox")), feed.example() if lines is None else lines)
    try:
        yield shop
        left = processes_in(shop.folder)
        assert not left, f"left running: {left}"
    finally:
        shop.close()
        shutil.rmtree(shop.folder, ignore_errors=True)


__all__ = ["Ended", "Expected", "Fate", "Run", "Shop", "assert_drained", "assert_right", "open_shop"]
