"""Who this store is: its id, its epoch, when it was last alive, whether it stopped cleanly."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from .connection import Connection


class Identity(msgspec.Struct, frozen=True):
    """``epoch`` numbers the life of this copy of the data: a restored one gets a later epoch."""

    store_id: str
    epoch: int


def get(connection: Connection, key: str) -> Any:
    row = connection.execute("SELECT value FROM outboxd_meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def put(connection: Connection, key: str, value: str | int | float) -> None:
    connection.execute(
        "INSERT INTO outboxd_meta VALUES (?, ?) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def identity(connection: Connection, now: float) -> Identity:
    """The store's identity, made at its first opening; the epoch is that moment in ms."""
    store_id = get(connection, "store_id")
    if store_id is None:
        store_id = uuid.uuid4().hex
        put(connection, "store_id", store_id)
        put(connection, "epoch", int(now * 1000))
    return Identity(store_id, get(connection, "epoch"))


def new_epoch(connection: Connection, now: float, above: int) -> Identity:
    """Gives this copy an epoch later than ``above``; its numbers begin anew."""
    put(connection, "epoch", max(int(now * 1000), above + 1))
    return identity(connection, now)
