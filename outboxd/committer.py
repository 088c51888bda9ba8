"""The way into a participant's database for every service: work, COMMIT, then what it left to do.

Rows go to the relay, begun effects are started, notes become log lines, due times wake the
scheduler. What a failed COMMIT left is left undone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .batch import Outcome
from .store.connection import Connection, Database

log = logging.getLogger("outboxd")


class Committer:
    """``commit`` runs work in a transaction of one participant's database."""

    def __init__(self, participant: str, database: Database) -> None:
        self.name = participant
        self.database = database
        self.after: list[Callable[[Outcome], None]] = [self._log]

    async def commit(self, work: Callable[[Connection], Outcome]) -> Outcome:
        """Returns after COMMIT and after what follows from it was begun.

        Raises what ``Database.write`` raises.
        """
        outcome = await self.database.write(work)
        self.settle(outcome)
        return outcome

    def settle(self, outcome: Outcome) -> None:
        """Begins what a committed outcome asks for."""
        for act in self.after:
            act(outcome)

    def _log(self, outcome: Outcome) -> None:
        for event, facts in outcome.notes:
            words = " ".join(f"{key}={value!r}" for key, value in facts.items())
            level = logging.INFO if event == "attempt_failed" else logging.WARNING
            log.log(level, "%s participant=%s %s", event, self.name, words)
