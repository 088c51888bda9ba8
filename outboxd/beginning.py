"""How a saga begins: with the first message of its key, or in a further round of it.

A further start is answered with what became of the first one, waits for its end, or is refused, as
the saga's ``again=`` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .batch import Batch
from .book import Book, Live, instance_of
from .ending import Ending
from .errors import Reject
from .instance import Instance, Moved
from .message import Envelope, decode_envelope, decode_message, key_of
from .registry import SagaKind
from .store import journal
from .store.journal import SagaRow

LATE_ROUNDS = 3
"""How many rounds a start looks back for the one that it has begun itself."""


class Beginning:
    """Begins the sagas of one participant; ``drive`` moves one on from what its code asks for."""

    def __init__(
        self, book: Book, ending: Ending, drive: Callable[[Batch, Live, Instance, Moved], None]
    ) -> None:
        self._name = book.name
        self._book = book
        self._ending = ending
        self._drive = drive

    def id_of(self, kind: SagaKind, key: str, round_: int = 1) -> str:
        """The id of a saga; ``round_`` counts the starts with one key."""
        return journal.saga_id(self._name, kind.name, key, round_)

    def start(self, batch: Batch, envelope: Envelope, body: bytes, kind: SagaKind) -> None:
        """Starts a saga, or answers a further start with the first one's result."""
        message = decode_message(envelope, kind.message)
        live, round_ = self.started_by(batch, envelope, kind, key_of(message) or "")
        if live is None:
            live = self.add(batch, kind, key_of(message) or "", round_, body)
            self._begin(batch, live, kind, message)
            # Not before: where that fails nothing has begun, and another start may get this round.
            batch.outcome.sagas[envelope.id] = live.row.id
            return
        batch.outcome.sagas[envelope.id] = live.row.id
        if decode_envelope(live.row.start).id == envelope.id:
            self._same_start(batch, envelope, live, kind, message)
        else:
            self._start_again(batch, envelope, body, kind, live)

    def started_by(
        self, batch: Batch, envelope: Envelope, kind: SagaKind, key: str
    ) -> tuple[Live | None, int]:
        """The saga that this start belongs to, or None and the round that it would begin."""
        live, is_its_own = self.found_by(batch, envelope, kind, key)
        if live is None:
            return None, 1
        if is_its_own or kind.spec.again != "after_end" or live.row.ended_at is None:
            return live, live.row.round
        return None, live.row.round + 1

    def found_by(
        self, batch: Batch, envelope: Envelope, kind: SagaKind, key: str
    ) -> tuple[Live | None, bool]:
        """The saga that a start began, and True; or the last one with its key, if there is any."""
        last = 1
        if kind.spec.again == "after_end":
            last = self._book.last_round(batch, kind.name, key, lambda n: self.id_of(kind, key, n))
        # A start that was held may find that other rounds have begun since.
        for round_ in range(last, max(0, last - LATE_ROUNDS), -1):
            live = self._book.find(batch, self.id_of(kind, key, round_))
            if live is not None and decode_envelope(live.row.start).id == envelope.id:
                return live, True
        return self._book.find(batch, self.id_of(kind, key, last)), False

    def add(self, batch: Batch, kind: SagaKind, key: str, round_: int, body: bytes) -> Live:
        """A new saga's row."""
        return self._book.add(
            batch,
            SagaRow(
                id=self.id_of(kind, key, round_),
                name=kind.name,
                key=key,
                round=round_,
                version=kind.spec.version,
                state="running",
                is_forward=0,
                step=None,
                ending=None,
                reason=None,
                stuck=None,
                detail=None,
                started_at=batch.now,
                moved_at=batch.now,
                ended_at=None,
                result=None,
                start=body,
            ),
        )

    def _same_start(
        self, batch: Batch, envelope: Envelope, live: Live, kind: SagaKind, message: Any
    ) -> None:
        """The very message that started it: sent again, or held since a bug in the first step."""
        if live.row.ended_at is not None:
            self._ending.answer(batch, envelope, live)
        elif live.row.state == "running" and not live.calls and live.row.step is None:
            self._begin(batch, live, kind, message)

    def _start_again(
        self, batch: Batch, envelope: Envelope, body: bytes, kind: SagaKind, live: Live
    ) -> None:
        if kind.spec.again == "refuse":
            batch.outcome.sagas[envelope.id] = None
            raise Reject(f"{live.row.id} was started before")
        if live.row.ended_at is not None:
            self._ending.answer(batch, envelope, live)
        elif envelope.replyto is not None:
            journal.add_waiter(batch.connection, live.row.id, envelope.id, body)

    def _begin(self, batch: Batch, live: Live, kind: SagaKind, message: Any) -> None:
        live.instance = instance = instance_of(live.row, kind, message)
        self._drive(batch, live, instance, instance.start(batch.now))
