"""Conservation, in SQL: what each store has sent, accepted, done and still holds.

Per sender and stream of a receiver: ``accepted - since = done + inbox + letters``. A letter that
was replayed counts as done; one that is being replayed, or holds its key, is the row of the inbox
that names it. Per stream of a sender: every number above what a receiver has accepted is in the
outbox.
"""

from __future__ import annotations

import msgspec

from outboxd.store.connection import Connection


class Account(msgspec.Struct, frozen=True):
    """One sender's messages at a receiver; ``kind``: in, events, or local for the unnumbered."""

    sender: str
    kind: str
    epoch: int
    since: int
    accepted: int
    done: int
    inbox: int
    letters: int

    @property
    def surplus(self) -> int:
        """Accounted for minus accepted: below zero something was lost, above it counted twice."""
        if self.accepted < self.since:
            return self.done + self.inbox + self.letters  # subscribed, and nothing has come yet
        return self.done + self.inbox + self.letters - (self.accepted - self.since)


_KEPT = "state IN ('dead', 'replaying', 'discarded', 'closed')"
_NOT_IN_INBOX = "n NOT IN (SELECT letter FROM outboxd_inbox WHERE letter IS NOT NULL)"


def accounts(connection: Connection) -> list[Account]:
    """Every sender known here, also one of whom there are only messages."""
    rows = connection.execute(
        "SELECT sender, kind, epoch, since, accepted, done FROM outboxd_sender"
    ).fetchall()
    senders = {(sender, kind): tuple(numbers) for sender, kind, *numbers in rows}
    inbox = _by_sender(connection, "outboxd_inbox", "1")
    letters = _by_sender(connection, "outboxd_dead", f"{_KEPT} AND {_NOT_IN_INBOX}")
    found = []
    for key in sorted({*senders, *inbox, *letters}):
        epoch, since, accepted, done = senders.get(key, (0, 0, 0, 0))
        held = (inbox.get(key, 0), letters.get(key, 0))
        found.append(Account(*key, epoch, since, accepted, done, *held))
    return found


def counted_twice(connection: Connection, sender: str, kind: str, limit: int) -> list[str]:
    """Messages that are a letter of their own and lie in the inbox as well."""
    found = connection.execute(
        f"SELECT DISTINCT id FROM outboxd_dead WHERE {_KEPT} AND {_NOT_IN_INBOX} "
        "AND sender = ? AND kind = ? AND id IN (SELECT id FROM outboxd_inbox "
        "WHERE sender = ? AND kind = ?) LIMIT ?",
        (sender, kind, sender, kind, limit),
    )
    return [row[0] for row in found.fetchall()]


def missing(connection: Connection, stream: str, above: int, last: int, limit: int) -> list[int]:
    """Numbers in (above, last] that are not in the outbox (primary key range)."""
    rows = connection.execute(
        "SELECT COUNT(*) FROM outboxd_outbox WHERE stream = ? AND seq > ? AND seq <= ?",
        (stream, above, last),
    ).fetchone()[0]
    if rows == max(0, last - above):
        return []
    found: list[int] = []
    expected = above + 1
    for (seq,) in connection.execute(
        "SELECT seq FROM outboxd_outbox WHERE stream = ? AND seq > ? ORDER BY seq", (stream, above)
    ).fetchall():
        found += range(expected, min(seq, expected + limit))
        expected = seq + 1
    found += range(expected, min(last + 1, expected + limit))
    return found[:limit]


def subscribers(connection: Connection) -> dict[str, int]:
    """Who reads this store's events, and after which number each began."""
    return dict(connection.execute("SELECT name, since FROM outboxd_subscriber").fetchall())


def subscriptions(connection: Connection, stream: str) -> list[tuple[str, float, int]]:
    """(name, since when, events kept) of each subscriber to the events of this store."""
    found = connection.execute(
        "SELECT name, at, (SELECT COUNT(*) FROM outboxd_outbox WHERE stream = ?) "
        "FROM outboxd_subscriber ORDER BY name",
        (stream,),
    )
    return found.fetchall()


def epoch(connection: Connection) -> int:
    """The epoch of this copy of the data; 0 before it was ever opened by a runtime."""
    row = connection.execute("SELECT value FROM outboxd_meta WHERE key = 'epoch'").fetchone()
    return 0 if row is None else row[0]


def silent_sagas(connection: Connection, limit: int) -> list[str]:
    """Open sagas that wait for nothing and are not stuck: none may exist (index outboxd_saga_open).

    A message that is about to move one is in the inbox under its id, its key, or with it noted.
    """
    found = connection.execute(
        "SELECT id FROM outboxd_saga s "
        "WHERE ended_at IS NULL AND state IN ('running', 'compensating') "
        "AND NOT EXISTS (SELECT 1 FROM outboxd_call c WHERE c.saga = s.id) "
        "AND NOT EXISTS (SELECT 1 FROM outboxd_undo u WHERE u.saga = s.id AND u.state = 'sent') "
        "AND NOT EXISTS "
        "(SELECT 1 FROM outboxd_inbox i WHERE i.id >= s.id || '#' AND i.id < s.id || '$') "
        "AND NOT EXISTS "
        "(SELECT 1 FROM outboxd_inbox i "
        "WHERE s.born AND i.id >= s.id || '~' AND i.id < s.id || char(127)) "
        "AND NOT EXISTS "
        "(SELECT 1 FROM outboxd_inbox i WHERE i.key = s.key OR i.error = s.id) LIMIT ?",
        (limit,),
    )
    return [row[0] for row in found.fetchall()]


def under_way(connection: Connection) -> str | None:
    """What keeps this store from being idle, in words; None when nothing is under way here."""
    checks = (
        ("an open saga", "SELECT 1 FROM outboxd_saga WHERE ended_at IS NULL LIMIT 1"),
        ("a message in the inbox", "SELECT 1 FROM outboxd_inbox LIMIT 1"),
        ("a delayed message", "SELECT 1 FROM outboxd_delayed LIMIT 1"),
    )
    for what, sql in checks:
        if connection.execute(sql).fetchone() is not None:
            return what
    return None


def _by_sender(connection: Connection, table: str, condition: str) -> dict[tuple[str, str], int]:
    found = connection.execute(
        f"SELECT sender, kind, COUNT(*) FROM {table} WHERE {condition} GROUP BY sender, kind"
    )
    return {(sender, kind): count for sender, kind, count in found.fetchall()}
