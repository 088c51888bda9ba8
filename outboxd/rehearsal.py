"""A rehearsal: does this code still fit the journals of the sagas that are under way?

Each open saga's coroutine is rebuilt from its journal, as before its next move, and dropped again.
Reads only, in short snapshots, beside a daemon that runs; what a replay answers comes from the
journal, so nothing is sent and no function of a saga's participant is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from .book import rebuilt
from .errors import CodeChanged
from .message import brief
from .monitor.files import Files
from .registry import Registry
from .store import journal
from .store.journal import JournalRow, SagaRow
from .store.reading import amounts
from .store.reading import sagas as reading

CHUNK = 200
"""Sagas read in one snapshot: a longer one would keep the daemon's log of writes from shrinking."""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A saga that this code would park: at ``step`` the journal and the code differ."""

    saga: str
    state: str
    step: int
    journal: str
    code: str


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """``sagas``: how many were replayed; ``absent``: participants without code, and their sagas."""

    sagas: int
    broken: tuple[Broken, ...]
    absent: dict[str, int]


def rehearse(data: Path, registry: Registry) -> Rehearsal:
    """Replays every saga under way in a data directory; raises ConfigError where there is none."""
    files = Files(data)
    try:
        broken: list[Broken] = []
        absent: dict[str, int] = {}
        count = 0
        for name in files.participants():
            if name not in registry.participants:
                absent |= _absent(files, name)
                continue
            for row, rows in _open_sagas(files, name):
                count += 1
                found = _replayed(registry, name, row, rows)
                broken += [] if found is None else [found]
        return Rehearsal(sagas=count, broken=tuple(broken), absent=absent)
    finally:
        files.close()


def _absent(files: Files, name: str) -> dict[str, int]:
    with files.read(name) as connection:
        count = sum(amounts.open_sagas(connection).values())
    return {name: count} if count else {}


def _open_sagas(files: Files, name: str) -> Iterator[tuple[SagaRow, list[JournalRow]]]:
    """Each saga with its journal as of one moment; one that has ended meanwhile is left out."""
    with files.read(name) as connection:
        ids = reading.open_ids(connection)
    for first in range(0, len(ids), CHUNK):
        chunk: list[tuple[SagaRow, list[JournalRow]]] = []
        with files.read(name) as connection:
            for saga_id in ids[first : first + CHUNK]:
                row = journal.get_saga(connection, saga_id)
                if row is not None and row.ended_at is None:
                    chunk.append((row, journal.rows(connection, saga_id)))
        yield from chunk


def _replayed(registry: Registry, name: str, row: SagaRow, rows: list[JournalRow]) -> Broken | None:
    try:
        rebuilt(registry, name, row, rows).drop()
    except CodeChanged as err:
        return _broken(row, err.pos, err.recorded, err.asked)
    except Exception as err:
        last = rows[-1] if rows else None
        had = "nothing yet" if last is None else f"{last.kind} {last.name}"
        raised = f"raises {type(err).__name__}: {brief(err)}"
        return _broken(row, 0 if last is None else last.pos, had, raised)
    return None


def _broken(row: SagaRow, step: int, had: str, asked: str) -> Broken:
    return Broken(saga=row.id, state=row.state, step=step, journal=had, code=asked)
