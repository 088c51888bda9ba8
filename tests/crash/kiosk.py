"""An application that sells in its own SQLite file, and relays what it sold: to be killed.

Its arguments: the file, the broker's URL, and what to do: ``sell`` until killed, or ``drain``.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import anyio
import anyio.to_thread

from outboxd import Command, Outbox


class Sold(Command[None], to="ledger", key="till"):
    """One sale; all of one till, so that their order can be checked."""

    till: str
    n: int


def sell(outbox: Outbox) -> None:
    """One transaction after another: the sale and its message."""
    connection = sqlite3.connect(outbox.path, timeout=10, isolation_level=None)
    connection.execute("CREATE TABLE IF NOT EXISTS sale (n INTEGER PRIMARY KEY AUTOINCREMENT)")
    while True:
        connection.execute("BEGIN IMMEDIATE")
        n = connection.execute("INSERT INTO sale DEFAULT VALUES RETURNING n").fetchone()[0]
        outbox.add(connection, Sold(till="1", n=n))
        connection.execute("COMMIT")
        sys.stdout.write(f"{n}\n")
        sys.stdout.flush()


async def main(path: Path, url: str, what: str) -> None:
    async with Outbox(path, name="kiosk", redis=url) as outbox:
        if what == "sell":
            await anyio.to_thread.run_sync(sell, outbox)
        await outbox.drained()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3])
