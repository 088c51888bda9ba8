"""Copies of a data directory's databases, made through SQLite while outboxd runs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .errors import ConfigError, Refused
from .store import control, copying


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One database; ``wal_bytes``: what is not yet in the file itself."""

    name: str
    path: str
    bytes: int
    wal_bytes: int = 0


def files(data: Path) -> list[File]:
    """The databases of a data directory, by name; raises ConfigError where outboxd never ran."""
    found = sorted(data.glob("*.db"))
    if not found:
        raise control.no_data(data)
    return [_file(path) for path in found]


def damages(path: Path) -> list[str]:
    """What SQLite finds wrong in a file; empty if it is whole."""
    return copying.damages(path)


def backup(data: Path, to: Path) -> list[File]:
    """Copies every database into ``to``, which must be new or empty.

    Raises Refused where it is not, Unavailable where SQLite cannot read or write.
    """
    found = files(data)
    try:
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise Refused(f"{to} is not empty", hint="name a new directory for each backup")
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"cannot use {to}: {err.strerror}", hint="name a writable place") from err
    copies = []
    for file in found:
        target = to / f"{file.name}.db"
        copying.copy(Path(file.path), target)
        copies.append(_file(target))
    return copies


def _file(path: Path) -> File:
    wal = path.resolve().with_name(f"{path.resolve().name}-wal")
    return File(
        name=path.stem,
        path=str(path),
        bytes=path.stat().st_size,
        wal_bytes=wal.stat().st_size if wal.exists() else 0,
    )
