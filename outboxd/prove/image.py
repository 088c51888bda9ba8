"""A number for the whole state of a run: equal states go on in equal ways."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from outboxd.store.connection import Connection

if TYPE_CHECKING:
    from .world import World


def of(world: World) -> int:
    """Databases, broker, time, effects under way, and what oracles and operator remember."""
    parts: list[object] = [world.clock.at, world.broker.image(), tuple(world.away.items())]
    parts += [len(world.starts), tuple(sorted(world.poisoned.items())), tuple(sorted(world.hurt))]
    parts += [world.operator.memory, world.oracles.memory, _outside(world)]
    for name, node in world.nodes.items():
        parts.append((node.is_up, node.was_killed, node.was_stopped, node.due_at))
        parts.append(tuple((e.n, e.phase, e.is_ready) for e in node.effects))
        parts.append(node.image(world.cast.images[name]))
    return hash(tuple(parts))


def statement(connection: Connection) -> str:
    """Reads all rows of a database as one row; what only people read of them is left out."""
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
        "AND name <> 'outboxd_attempt' "
        "ORDER BY name"
    )
    return "SELECT " + ", ".join(_all_of(connection, name) for (name,) in found.fetchall())


def _all_of(connection: Connection, table: str) -> str:
    name = table.replace('"', '""')
    columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    row = " || ',' || ".join(f"""quote("{column.replace('"', '""')}")""" for (column,) in columns)
    return f"""(SELECT group_concat({row}, ';') FROM "{name}")"""


def _outside(world: World) -> object:
    """What the plugins' fakes have become; equal to nothing where nobody knows."""
    fakes = [fake for name, fake in world.resources.items() if world.nodes[name].has_fake]
    try:
        return pickle.dumps(fakes) if fakes else None
    except Exception:
        return object()
