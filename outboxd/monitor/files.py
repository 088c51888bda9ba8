"""The databases of a data directory, opened read-only when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outboxd.errors import NotFound
from outboxd.store import control, reading
from outboxd.store.connection import Connection, open_reader
from outboxd.store.reading.amounts import Ended


class Files:
    """One reader per database; used by one thread at a time. ``close`` ends it.

    ``ended`` remembers what was counted of the ended sagas, which are many and change little.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ended: dict[str, Ended] = {}
        self._readers: dict[str, Connection] = {}
        self._versions: dict[str, int] = {}

    def close(self) -> None:
        for connection in self._readers.values():
            connection.close()
        self._readers.clear()

    def participants(self) -> list[str]:
        """Who has a database here; raises ConfigError where outboxd never ran."""
        names = sorted(path.stem for path in self.data.glob("*.db") if path.name != control.FILE)
        found = [name for name in names if self.has(name)]
        if not found and not self.has_control():
            raise control.no_data(self.data)
        return found

    def has_control(self) -> bool:
        if not (self.data / control.FILE).is_file():
            return False
        with reading.snapshot(self._reader(control.NAME), control.FILE) as connection:
            return reading.is_control(connection)

    def has(self, participant: str) -> bool:
        name = f"{participant}.db"
        if not (self.data / name).is_file():
            return False
        with reading.snapshot(self._reader(participant), name) as connection:
            return reading.is_store(connection)

    @contextmanager
    def read(self, participant: str) -> Iterator[Connection]:
        """A snapshot of a participant's database; keep the block short."""
        if not self.has(participant):
            raise NotFound(f"there is no participant {participant!r} in {self.data}")
        with reading.snapshot(self._reader(participant), f"{participant}.db") as connection:
            yield connection

    @contextmanager
    def control(self) -> Iterator[Connection]:
        """A snapshot of control.db; raises ConfigError where outboxd never ran."""
        if not self.has_control():
            raise control.no_data(self.data)
        with reading.snapshot(self._reader(control.NAME), control.FILE) as connection:
            yield connection

    def has_changed(self) -> bool:
        """Whether another process has committed anything since the last time this was asked."""
        names = [*self.participants(), *([control.NAME] if self.has_control() else [])]
        versions = {name: control.data_version(self._reader(name)) for name in names}
        is_same = versions == self._versions
        self._versions = versions
        return not is_same

    def _reader(self, name: str) -> Connection:
        if name not in self._readers:
            self._readers[name] = open_reader(self.data / f"{name}.db")
        return self._readers[name]
