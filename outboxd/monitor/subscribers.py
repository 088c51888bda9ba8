"""Who reads whose events, and how many are kept until all have read them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from outboxd.clock import utc
from outboxd.message import events_stream
from outboxd.store.reading import counting

from .files import Files


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription. ``kept``: events of the publisher that not every subscriber holds yet."""

    name: str
    publisher: str
    at: datetime
    kept: int


def every(files: Files) -> list[Subscriber]:
    """All subscriptions to events of a participant here."""
    found: list[Subscriber] = []
    for publisher in files.participants():
        with files.read(publisher) as connection:
            rows = counting.subscriptions(connection, events_stream(publisher))
        found += [
            Subscriber(name=name, publisher=publisher, at=utc(at), kept=kept)
            for name, at, kept in rows
        ]
    return found
