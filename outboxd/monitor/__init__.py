"""The read model: what command line and dashboard show, from the SQLite files alone.

Read-only connections and short snapshots, from any process, whether the daemon runs or not. It
writes nothing and knows neither broker nor screen; ``operate`` is its counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from outboxd.clock import Clock, SystemClock
from outboxd.errors import NotFound
from outboxd.store import control
from outboxd.store.control import Request
from outboxd.store.reading import letters as letter_reading
from outboxd.store.reading.filters import Term, where

from . import daemon as daemons
from . import (
    filtering,
    flow,
    letters,
    logfile,
    messages,
    nearest,
    overview,
    proof,
    reasons,
    saga,
    sagas,
    schedules,
    subscribers,
)
from .daemon import Broker as Broker
from .daemon import Daemon as Daemon
from .files import Files
from .filtering import LETTER_FIELDS as LETTER_FIELDS
from .filtering import MESSAGE_FIELDS as MESSAGE_FIELDS
from .filtering import SAGA_FIELDS as SAGA_FIELDS
from .flow import Flow as Flow
from .flow import Handled as Handled
from .flow import Sent as Sent
from .letters import Attempt as Attempt
from .letters import LetterDetail as LetterDetail
from .letters import LetterGroup as LetterGroup
from .letters import LetterPage as LetterPage
from .letters import LetterRow as LetterRow
from .letters import Operation as Operation
from .logfile import LogLine as LogLine
from .messages import MessageDetail as MessageDetail
from .messages import MessageRow as MessageRow
from .overview import Health as Health
from .overview import Overview as Overview
from .proof import InvariantResult as InvariantResult
from .proof import Violation as Violation
from .proof import check_invariants as check_invariants
from .proof import invariants as invariants
from .reasons import Why as Why
from .saga import HistoryRow as HistoryRow
from .saga import SagaDetail as SagaDetail
from .saga import SagaStep as SagaStep
from .sagas import SagaPage as SagaPage
from .sagas import SagaRow as SagaRow
from .schedules import Planned as Planned
from .subscribers import Subscriber as Subscriber

PAGE = 200
"""Rows of a list unless asked otherwise: more than a screen, and cheap to draw."""


class Monitor:
    """Reads one data directory; used by one thread at a time, and closed by ``with`` or ``close``.

    Its connections stay open between calls, so a dashboard asks ``has_changed`` cheaply.
    """

    def __init__(self, data: Path, clock: Clock | None = None) -> None:
        self.data = data
        self._files = Files(data)
        self._clock = clock or SystemClock()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._files.close()

    def has_changed(self) -> bool:
        """Whether anything was committed since the last time this was asked."""
        return self._files.has_changed()

    def participants(self) -> list[str]:
        """Who has a database here."""
        return self._files.participants()

    def daemon(self) -> Daemon:
        """Whether the daemon lives, and what it said last."""
        return daemons.read(self.data, self._clock.now())

    def overview(self) -> Overview:
        """One screen of health."""
        return overview.overview(self._files, self._clock.now())

    def sagas(self, terms: Sequence[Term] | str = (), limit: int = PAGE) -> SagaPage:
        """The sagas that match a filter, trouble first."""
        asked = filtering.parse(terms, SAGA_FIELDS) if isinstance(terms, str) else terms
        return sagas.page(self._files, asked, limit, self._clock.now())

    def saga(self, name: str) -> SagaDetail:
        """All about one saga, by its id or its key; raises NotFound."""
        return saga.detail(self._files, name, self._clock.now())

    def started_by(self, participant: str, key: str, message_id: str) -> str | None:
        """The saga that a message started, or else the latest one with its key."""
        return sagas.started_by(self._files, participant, key, message_id)

    def letters(self, terms: Sequence[Term] | str = (), limit: int = PAGE) -> LetterPage:
        """The dead letters that match a filter, the latest first."""
        return letters.page(self._files, _letter_terms(terms), limit)

    def letter_groups(self, terms: Sequence[Term] | str = ()) -> list[LetterGroup]:
        """The letters that wait for a person, by handler and error."""
        return letters.groups(self._files, _letter_terms(terms), self._clock.now())

    def letter(self, name: str) -> LetterDetail:
        """All about one letter, called d-7 or payments/d-7; raises NotFound."""
        return letters.detail(self._files, name)

    def letter_numbers(self, terms: Sequence[Term] | str) -> list[tuple[str, int]]:
        """(participant, number) of every letter that matches and can be replayed or discarded."""
        asked = _letter_terms(terms)
        condition = where(filtering.without(asked, "participant"), letter_reading.LETTER_COLUMNS)
        found: list[tuple[str, int]] = []
        for name in letters.asked(self._files, asked):
            with self._files.read(name) as connection:
                numbers = letter_reading.live_numbers(connection, condition)
            found += [(name, number) for number in numbers]
        return found

    def letter_states(self, chosen: Sequence[tuple[str, int]]) -> dict[str, int]:
        """State to how many of these letters, as (participant, number), are in it."""
        return letters.states(self._files, chosen)

    def flow(self) -> Flow:
        """Every arrow of the data's way: its counter, what lies on it, and since when."""
        return flow.flow(self._files, self._clock.now())

    def ended_per_second(self, span_s: float) -> dict[int, dict[str, int]]:
        """Second to state to the sagas that ended in it, over the last ``span_s`` seconds."""
        return flow.ended_per_second(self._files, self._clock.now() - span_s)

    def messages(self, terms: Sequence[Term] | str = (), limit: int = PAGE) -> list[MessageRow]:
        """Messages under way that match: what fails first, then the oldest."""
        asked = filtering.parse(terms, MESSAGE_FIELDS) if isinstance(terms, str) else terms
        return messages.page(self._files, asked, limit)

    def message(self, message_id: str) -> MessageDetail:
        """One message that is under way; raises NotFound."""
        return messages.detail(self._files, message_id)

    def log(self, words: str = "", limit: int = PAGE) -> list[LogLine]:
        """The latest lines of the daemon's log that have all of these words, the newest first."""
        return logfile.tail(self.data, words.split(), limit)

    def why(self, name: str) -> Why:
        """What a saga, a letter or a message waits for, and what would move it; or NotFound."""
        return reasons.why(self._files, name, self._clock.now())

    def find_saga(self, name: str) -> str:
        """The full id of a saga, by that or by its key; raises NotFound."""
        return sagas.find(self._files, name)

    def find_letter(self, name: str) -> tuple[str, int]:
        """(participant, number) of a letter; raises NotFound."""
        return letters.find(self._files, name)

    def subscribers(self) -> list[Subscriber]:
        """Who reads the events of a participant here."""
        return subscribers.every(self._files)

    def schedules(self) -> list[Planned]:
        """What fires by time alone."""
        return schedules.every(self._files, self._clock.now())

    def requests(self, limit: int = PAGE) -> list[Request]:
        """The latest requests of operators and senders, the newest first."""
        with self._files.control() as connection:
            return control.requests(connection, limit)

    def request(self, request_id: str) -> Request:
        """One request; raises NotFound."""
        with self._files.control() as connection:
            found = control.get(connection, request_id)
            known = [] if found else [r.id for r in control.requests(connection, PAGE)]
        if found is None:
            hint = nearest.hint(known, request_id, "outboxd op list shows them")
            raise NotFound(f"there is no operation {request_id}", hint=hint)
        return found

    def audit(self) -> list[Violation]:
        """Every violation of conservation, on live data as well."""
        return proof.audit(self._files)


def audit(data: Path) -> list[Violation]:
    """Every violation of conservation in a data directory."""
    with Monitor(data) as monitor:
        return monitor.audit()


def _letter_terms(terms: Sequence[Term] | str) -> Sequence[Term]:
    return filtering.parse(terms, LETTER_FIELDS) if isinstance(terms, str) else terms
