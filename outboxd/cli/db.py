"""``outboxd db``: the databases of a data directory: list, check, back up."""

from __future__ import annotations

from pathlib import Path

import click

from outboxd import backup as backups
from outboxd.backup import File
from outboxd.settings import Settings

from . import exits
from .groups import Group
from .options import with_output, with_settings
from .output import Column, Output, counted


@click.group(cls=Group)
def db() -> None:
    """The databases: list, check, backup.

    One SQLite file for each participant, and control.db. They may be read while outboxd runs, with
    `sqlite3 -readonly`; nobody else may write them.
    """


@db.command("list")
@with_settings
@with_output
def list_(settings: Settings, out: Output) -> None:
    """Every file, where it lies, and how large it is."""
    files = backups.files(settings.data)
    if out.is_json:
        out.document(files)
        return
    columns = [
        Column[File](title="DATABASE", text=lambda f: f.name),
        Column[File](title="SIZE", text=lambda f: _size(f.bytes), raw=_raw_bytes, align=">"),
        Column[File](title="WAL", text=lambda f: _size(f.wal_bytes), raw=_raw_wal, align=">"),
        Column[File](title="FILE", text=lambda f: f.path, least=20, cut="start"),
    ]
    out.rows(files, columns)


@db.command()
@with_settings
@with_output
def check(settings: Settings, out: Output) -> None:
    """Let SQLite check every page and key; exit 1 if anything is damaged.

    It reads everything, beside the daemon or not. What the rows mean is `outboxd audit`'s.
    """
    damages = {file.name: backups.damages(Path(file.path)) for file in backups.files(settings.data)}
    if out.is_json:
        out.document(damages)
    for name, found in () if out.is_json else damages.items():
        out.line(f"{out.painted('✗', 'red') if found else out.painted('✓', 'green')} {name}")
        for sentence in found:
            out.line(f"    {sentence}")
    if any(damages.values()):
        out.say("restore a backup: outboxd db backup --help")
        raise exits.Stop(exits.FAILED)


@db.command()
@click.argument("to", metavar="DIR", type=click.Path(path_type=Path))
@with_settings
@with_output
def backup(settings: Settings, out: Output, to: Path) -> None:
    """Copy every database into a new directory DIR, while outboxd runs.

    \b
      outboxd db backup /backup/$(date +%F)

    Each copy is one moment of its file; the files are copied one after another, and checked. The
    broker needs no backup. To restore: stop outboxd, put all copies of one backup into an empty
    data directory, start, and `outboxd trust NAME` for each participant that status names: what was
    sent since the backup may be sent again.
    """
    copies = backups.backup(settings.data, to)
    if out.is_json:
        out.document(copies)
        return
    for copy in copies:
        out.line(copy.path)
    total = sum(copy.bytes for copy in copies)
    out.say(f"{counted(len(copies), 'database')}, {_size(total)}, checked")


def _size(number: int) -> str:
    return f"{number / (1 << 20):,.1f} MB" if number >= 100_000 else f"{number / 1024:,.0f} kB"


def _raw_bytes(file: File) -> str:
    return str(file.bytes)


def _raw_wal(file: File) -> str:
    return str(file.wal_bytes)
