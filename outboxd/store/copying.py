"""A database file copied as it is at one moment, and checked; others may write it meanwhile."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from outboxd.errors import Unavailable

from .connection import mapped, open_reader


def copy(source: Path, target: Path) -> None:
    """Copies ``source``; raises Unavailable if that fails or the copy is damaged."""
    reader = open_reader(source)
    try:
        target.touch(mode=0o600, exist_ok=False)
        writer = sqlite3.connect(target, isolation_level=None)
        try:
            reader.backup(writer)
            writer.execute("PRAGMA journal_mode = delete")  # one file, whole in itself
        finally:
            writer.close()
        _sync(target)
    except sqlite3.Error as err:
        raise mapped(err, source.name) from err
    except OSError as err:
        raise Unavailable(f"cannot write {target}: {err.strerror}") from err
    finally:
        reader.close()
    found = damages(target)
    if found:
        raise Unavailable(f"the copy of {source.name} is damaged: {found[0]}")


def damages(path: Path) -> list[str]:
    """What a check of every page, index and key finds; empty if all is well."""
    reader = open_reader(path)
    try:
        said = [row[0] for row in reader.execute("PRAGMA integrity_check").fetchall()]
        keys = reader.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as err:
        return [str(err)]
    finally:
        reader.close()
    found = [] if said == ["ok"] else said
    return found + [f"{table}: row {row} points to nothing in {to}" for table, row, to, _ in keys]


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
