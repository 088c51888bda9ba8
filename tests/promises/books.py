"""The books of a data directory: what was sent, held, done and buried must add up (P11)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from outboxd.message import events_stream

Rows = list[tuple[Any, ...]]


class Books:
    """The databases of a data directory, read after the runtime has stopped."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.names = sorted(path.stem for path in data.glob("*.db") if path.stem != "control")

    def rows(self, name: str, sql: str, *args: Any) -> Rows:
        """What a statement finds in one participant's database."""
        uri = f"{(self._data / f'{name}.db').resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(sql, args).fetchall()

    def value(self, name: str, sql: str, *args: Any) -> Any:
        """The first column of the only row."""
        [(found,)] = self.rows(name, sql, *args)
        return found

    def errors(self) -> list[str]:
        """A sentence for each sum that does not come out."""
        return [
            said
            for name in self.names
            for said in (*self._receiver(name), *self._sender(name), *self._memory(name))
        ]

    def _receiver(self, name: str) -> Iterator[str]:
        """accepted - since = done + rows of the inbox without a letter + letters not replayed."""
        for sender, kind, since, accepted, done in self.rows(
            name, "SELECT sender, kind, since, accepted, done FROM outboxd_sender"
        ):
            waiting = self.value(
                name,
                "SELECT count(*) FROM outboxd_inbox"
                " WHERE sender = ? AND kind = ? AND letter IS NULL",
                sender,
                kind,
            )
            letters = self.value(
                name,
                "SELECT count(*) FROM outboxd_dead WHERE sender = ? AND kind = ?"
                " AND state <> 'replayed'",
                sender,
                kind,
            )
            if accepted - since != done + waiting + letters:
                yield (
                    f"{name} accepted {accepted - since} of {sender}:{kind}, but has {done} done,"
                    f" {waiting} waiting and {letters} letters"
                )

    def _sender(self, name: str) -> Iterator[str]:
        """last = accepted by the receiver + rows of the outbox that it does not hold."""
        for stream, last in self.rows(name, "SELECT stream, last FROM outboxd_stream"):
            kept = [
                row[0]
                for row in self.rows(
                    name, "SELECT seq FROM outboxd_outbox WHERE stream = ? ORDER BY seq", stream
                )
            ]
            if kept != list(range(last - len(kept) + 1, last + 1)):
                yield f"{name}: the outbox of {stream} has a gap before {last}: {kept[:20]}"
            for receiver, accepted in self._accepted(name, stream):
                if accepted > last:
                    yield f"{receiver} accepted {accepted} of {stream}, of which {last} were sent"
                if accepted < last - len(kept):
                    yield f"{stream} lost {accepted + 1} to {last - len(kept)} for {receiver}"

    def _accepted(self, name: str, stream: str) -> Iterator[tuple[str, int]]:
        """Every receiver of a stream, and up to where it holds it."""
        if stream == events_stream(name):
            kind = "events"
            receivers = [r[0] for r in self.rows(name, "SELECT name FROM outboxd_subscriber")]
        else:
            kind = "in"
            receivers = [stream.partition("{")[2].partition("}")[0]]
        for receiver in set(receivers) & set(self.names):
            found = self.rows(
                receiver,
                "SELECT accepted FROM outboxd_sender WHERE sender = ? AND kind = ?",
                name,
                kind,
            )
            if found or kind == "in":
                yield receiver, found[0][0] if found else 0

    def _memory(self, name: str) -> Iterator[str]:
        """A letter that is being replayed has its message in the inbox; one that waits has not."""
        for n, state, held in self.rows(
            name,
            "SELECT n, state, (SELECT count(*) FROM outboxd_inbox WHERE letter = outboxd_dead.n"
            " AND state IN ('waiting', 'running')) FROM outboxd_dead",
        ):
            if held != (state == "replaying"):
                yield f"{name}: d-{n} is {state}, and {held} of its messages are under way"
