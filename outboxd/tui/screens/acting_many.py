"""What a person does to many sagas at once: names how many, asks why, and does each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from outboxd import operate
from outboxd.errors import OutboxdError
from outboxd.monitor import Monitor, SagaPage, SagaRow
from outboxd.store.control import Request
from outboxd.words import counted

from .acting import letter_of
from .ask import Answer, Choice, Question

if TYPE_CHECKING:
    from .page import Page


class Stuck(msgspec.Struct):
    """What holds the sagas that shall be retried: a dead letter, or their own code."""

    letters: list[tuple[str, int]]
    sagas: list[str]


def cancel(page: Page, rows: Sequence[SagaRow]) -> None:
    """Asks why, then for all of them to be unwound; those that have ended are left out."""
    ids = [row.id for row in rows if row.ended_at is None]
    if not ids:
        page.dash.say("○ all that are marked have ended", "dim")
        return
    many = counted(len(ids), "saga")
    question = Question(
        title=f"Cancel {many}",
        text="What each of them did is undone, the last step first, then it ends as cancelled. "
        "Those past their point of no return are refused.",
        verb=f"Cancel {len(ids):,}",
        needs_reason=True,
        typed=str(len(ids)) if len(ids) > 1 else "",
        is_severe=True,
    )

    def then(answer: Answer) -> None:
        data, why = page.dash.data, answer.reason
        page.ask_for(
            f"cancel of {many}",
            lambda: [found for one in ids for found in operate.cancel(data, one, reason=why)],
        )

    page.ask(question, then)


def retry(page: Page, marked: Sequence[SagaRow], shown: SagaPage) -> None:
    """Asks which and why; of each its letter is replayed, or its code runs again."""
    stuck = {
        "marked": [row.id for row in marked if row.state == "stuck"],
        "shown": [row.id for row in shown.rows if row.state == "stuck"],
    }
    choices = [
        Choice(
            id=name,
            label=f"{counted(len(stuck[name]), 'stuck saga')} {words}",
            verb=f"Retry {len(stuck[name]):,}",
        )
        for name, words in (("marked", "of those marked"), ("shown", "in this list"))
        if stuck[name]
    ]
    if not choices:
        page.dash.say("○ nothing here is stuck", "dim")
        return
    question = Question(
        title="Retry",
        text="A saga that a dead letter holds goes on when that is handled again; one that its "
        "code has stopped runs from where it stood.",
        verb=choices[0].verb,
        choices=tuple(choices),
        needs_reason=True,
    )

    def then(answer: Answer) -> None:
        page.run_worker(_retry(page, stuck[answer.choice], answer.reason), group="acting")

    page.ask(question, then)


async def _retry(page: Page, ids: Sequence[str], reason: str) -> None:
    found = await page.dash.reader.ask(lambda monitor: _held_by(monitor, ids))
    data = page.dash.data

    def ask() -> list[Request]:
        asked = operate.replay(data, found.letters, reason=reason) if found.letters else []
        for saga_id in found.sagas:
            asked += operate.retry(data, saga_id, reason=reason)
        return asked

    page.ask_for(f"retry of {counted(len(ids), 'saga')}", ask, letters=found.letters)


def _held_by(monitor: Monitor, ids: Sequence[str]) -> Stuck:
    found = Stuck([], [])
    for saga_id in ids:
        try:
            detail = monitor.saga(saga_id)
            letter = letter_of(detail)
            if letter is not None:
                found.letters.append(monitor.find_letter(letter))
            elif detail.saga.state == "stuck":
                found.sagas.append(saga_id)
        except OutboxdError:  # it has ended, or its letter is gone, since the list was drawn
            continue
    return found
