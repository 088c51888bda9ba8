"""Migrations: outboxd's own tables, then the participant's; each applied once, in order."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from outboxd.errors import ConfigError

from . import meta
from .connection import Connection

_VERSION = "tables"
"""The key under which is noted how many scripts were applied."""


def statements(script: str) -> Iterator[str]:
    """The statements of a script; ``executescript`` would commit the transaction around it."""
    pending = ""
    for piece in re.split(r"(?<=;)", script):
        pending += piece
        if sqlite3.complete_statement(pending):
            if pending.strip().rstrip(";").strip():
                yield pending
            pending = ""
    if any(line.split("--")[0].strip() for line in pending.splitlines()):
        yield pending


_ENDS_COMMITS = re.compile(
    r"INITIALLY\s+DEFERRED|ON\s+CONFLICT\s+ROLLBACK|RAISE\s*\(\s*ROLLBACK|OR\s+ROLLBACK",
    re.IGNORECASE,
)
"""What would fail, or end, the transaction of a whole batch because of one message in it."""


def _refuse_what_ends_commits(name: str, script_name: str, statement: str) -> None:
    found = _ENDS_COMMITS.search(re.sub(r"--[^\n]*", "", statement))
    if found:
        raise ConfigError(
            f"{name}: {script_name} has {' '.join(found[0].split()).upper()}, which would undo "
            "other messages of the same commit",
            hint="use ABORT (the default) and immediate constraints",
        )


def migrate_own(connection: Connection) -> None:
    """Brings outboxd's tables up to date; raises ConfigError if they are newer than this code."""
    folder = files("outboxd.store") / "schema"
    scripts = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    done = _version(connection)
    if done > len(scripts):
        raise ConfigError(
            f"the database{_file(connection)} is of version {done}; "
            f"this outboxd knows {len(scripts)}",
            hint="use the newer outboxd that wrote it",
        )
    for number, name in enumerate(scripts[done:], done + 1):
        for statement in statements((folder / name).read_text()):
            connection.execute(statement)
        meta.put(connection, _VERSION, number)


def _file(connection: Connection) -> str:
    """Which one, where it is a file."""
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    return f" {path}" if path else ""


def _version(connection: sqlite3.Connection) -> int:
    """How many scripts were applied. Not PRAGMA user_version: the file may be an application's."""
    ours = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'outboxd_meta'").fetchone()
    if ours is None:
        return 0
    version: int | None = meta.get(connection, _VERSION)
    return 1 if version is None else version  # the first one was not noted


def migrate_participant(connection: Connection, name: str, scripts: list[tuple[str, str]]) -> None:
    """Applies the participant's scripts (name, SQL) that are new here.

    Raises ConfigError for one that does not apply, or that was changed after it was applied.
    """
    rows = connection.execute("SELECT key, value FROM outboxd_meta WHERE key LIKE 'schema:%'")
    applied = {key.removeprefix("schema:"): value for key, value in rows.fetchall()}
    for script_name, sql in scripts:
        digest = hashlib.sha256(" ".join(sql.split()).encode()).hexdigest()[:16]
        if script_name in applied:
            if applied[script_name] != digest:
                raise ConfigError(
                    f"{name}: {script_name} was changed after it had been applied",
                    hint='leave it as it was and add a numbered migration (migrations="folder")',
                )
            continue
        try:
            for statement in statements(sql):
                _refuse_what_ends_commits(name, script_name, statement)
                connection.execute(statement)
        except sqlite3.Error as err:
            raise ConfigError(f"{name}: {script_name} does not apply: {err}") from err
        connection.execute(
            "INSERT INTO outboxd_meta VALUES (?, ?)", (f"schema:{script_name}", digest)
        )


def participant_scripts(
    name: str, folder: Path, schema: str | None, migrations: str | None
) -> list[tuple[str, str]]:
    """The participant's scripts in order; raises ConfigError if its folder is not there."""
    if schema is not None:
        return [("schema", schema)]
    if migrations is None:
        return []
    place = folder / migrations
    found = sorted(place.glob("*.sql")) if place.is_dir() else []
    if not found:
        raise ConfigError(
            f"{name}: no .sql files in {place}", hint="name them 0001_….sql, 0002_….sql"
        )
    return [(path.name, path.read_text()) for path in found]
