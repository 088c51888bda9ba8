"""The way into a participant's database for every service: work, COMMIT, then what it left to do.

Rows go to the relay, begun effects are started, notes become log lines, due times wake the
scheduler. What a failed COMMIT left is left undone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .batch import Outcome
from .errors import StoreBroken
from .store.connection import Connection, Database

log = logging.getLogger("outboxd")


class Committer:
    """``commit`` runs work in a transaction of one participant's database."""

    def __init__(self, participant: str, database: Database) -> None:
        self.name = participant
        self.database = database
        self.error: str | None = None
        self.after: list[Callable[[Outcome], None]] = [self._log]

    async def commit(self, work: Callable[[Connection], Outcome]) -> Outcome:
        """Returns after COMMIT and after what follows from it was begun; cancelling waits for both.

        Raises what ``Database.write`` raises.
        """
        try:
            outcome = await self.database.write(work)
        except StoreBroken as err:
            self._note(err)
            raise
        self._note(None)
        self.settle(outcome)
        return outcome

    def _note(self, error: StoreBroken | None) -> None:
        """Says so once when the disk refuses, and once when it takes writes again."""
        if error is not None and self.error is None:
            log.error("database refuses writes, retrying; nothing is lost: %s", error)
        elif error is None and self.error is not None:
            log.warning("database takes writes again: %s", self.database.path.name)
        self.error = None if error is None else str(error)

    def settle(self, outcome: Outcome) -> None:
        """Begins what a committed outcome asks for."""
        for act in self.after:
            act(outcome)

    def _log(self, outcome: Outcome) -> None:
        for event, facts in outcome.notes:
            words = " ".join(f"{key}={value!r}" for key, value in facts.items())
            level = logging.INFO if event == "attempt_failed" else logging.WARNING
            log.log(level, "%s participant=%s %s", event, self.name, words)
