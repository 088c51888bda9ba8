"""A saga as the application that started it holds it: what became of it, and its cancellation."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from .clock import utc

if TYPE_CHECKING:
    from .runtime import Runtime
    from .store.journal import SagaRow


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a saga is. ``state``: running, compensating, stuck, completed, compensated, cancelled;
    ``step``: what it is at; ``stuck``: why it waits for a person; ``reason``: why it was undone;
    ``result``: what it returned, once it is completed.
    """

    id: str
    state: str
    step: str | None
    stuck: str | None
    reason: str | None
    result: Any
    started_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: SagaRow) -> Standing:
        return cls(
            id=row.id,
            state=row.state,
            step=row.step,
            stuck=row.stuck,
            reason=row.reason,
            result=None if row.result is None else msgspec.json.decode(row.result),
            started_at=utc(row.started_at),
            ended_at=None if row.ended_at is None else utc(row.ended_at),
        )


class Handle:
    """A started saga. ``id`` finds it again after a restart."""

    def __init__(self, runtime: Runtime, saga_id: str, participant: str) -> None:
        self.id = saga_id
        self.participant = participant
        self._runtime = runtime

    async def result(self) -> Any:
        """Waits for the saga's end and returns its result.

        Raises Rejected with the reason if it was compensated, Cancelled if it was cancelled, and
        Unavailable if the runtime stops before.
        """
        return await self._runtime.result_of(self.participant, self.id)

    async def standing(self) -> Standing:
        """Where the saga is now, as it is committed; does not wait."""
        return await self._runtime.standing_of(self.participant, self.id)

    async def cancel(self, reason: str) -> None:
        """Cancels the saga; see ``Runtime.cancel``."""
        await self._runtime.cancel(self.id, reason)
