"""The databases of a data directory, opened read-only when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from outboxd.errors import NotFound
from outboxd.store import control, reading
from outboxd.store.connection import Connection, open_reader
from outboxd.store.reading import amounts
from outboxd.store.reading.amounts import Ended

COUNTED_S = 10.0
"""So long the count of what has ended is carried on; counting a million takes 50 ms."""


class Files:
    """One reader per database; used by one thread at a time. ``close`` ends it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._ended: dict[str, Ended] = {}
        self._counted_at: dict[str, float] = {}
        self._readers: dict[str, Connection] = {}
        self._versions: dict[str, int] = {}
        self._made: set[str] = set()

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
        return self._is_made(control.NAME, reading.is_control)

    def has(self, participant: str) -> bool:
        return self._is_made(participant, reading.is_store)

    def _is_made(self, name: str, has_tables: Callable[[Connection], bool]) -> bool:
        """Tables once made stay: a dashboard must not ask again with each of its questions."""
        if not (self.data / f"{name}.db").is_file():
            self._made.discard(name)
            return False
        if name not in self._made:
            with reading.snapshot(self._reader(name), f"{name}.db") as connection:
                if has_tables(connection):
                    self._made.add(name)
        return name in self._made

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

    def ended(self, name: str, connection: Connection, now: float) -> Ended:
        """A participant's ended sagas by state, from what was counted before and what came since.

        They are many and change little. That old ones were pruned is looked for now and then.
        """
        known = self._ended.get(name)
        found = amounts.ended_since(connection, known or amounts.NONE_ENDED)
        if known is None or now - self._counted_at[name] >= COUNTED_S:
            self._counted_at[name] = now
            if known is not None and found.total != amounts.ended_total(connection):
                found = amounts.ended_since(connection)
        self._ended[name] = found
        return found

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
