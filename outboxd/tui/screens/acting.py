"""What a person does to sagas and letters, with as many questions as it is dangerous."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from outboxd import operate
from outboxd.errors import OutboxdError
from outboxd.monitor import SagaDetail, SagaRow
from outboxd.store.control import Request

from .ask import Answer, Choice, Question

if TYPE_CHECKING:
    from .page import Page

Letter = tuple[str, int]

_REPLAY = "outboxd dead replay "
_RETRY = "outboxd saga retry "


def retry(page: Page, detail: SagaDetail) -> None:
    """Moves a stuck saga: its letter is replayed, or its code runs again. Safe to repeat."""
    saga = detail.saga
    letter = letter_of(detail)
    if letter is not None:
        what = f"replay of {letter}, which holds {saga.key}"
        page.run_worker(_replay_named(page, letter, what), group="acting")
    elif any(move.startswith(_RETRY) for move in detail.moves):
        _retry_code(page, saga)
    elif saga.ended_at is not None:
        page.dash.say(f"○ {saga.key} is {saga.state}: there is nothing to retry", "dim")
    else:
        page.dash.say(f"○ {saga.key} is {saga.state}: it goes on by itself", "dim")


def letter_of(detail: SagaDetail) -> str | None:
    """The dead letter that holds a saga."""
    moves = (move for move in detail.moves if move.startswith(_REPLAY))
    return next((move.removeprefix(_REPLAY) for move in moves), None)


def _retry_code(page: Page, saga: SagaRow) -> None:
    question = Question(
        title=f"Retry {saga.id}",
        text="Its code runs again from where it stood, on the journal as it is.",
        verb="Retry the saga",
        needs_reason=True,
    )
    _asked(page, question, lambda answer: operate.retry(
        page.dash.data, saga.id, reason=answer.reason
    ), f"retry of {saga.key}")  # fmt: skip


def skip(page: Page, detail: SagaDetail) -> None:
    """Answers a step by hand: asks which, with what, and why."""
    saga = detail.saga
    waiting = [step for step in (*detail.steps, *detail.undos) if step.ended_at is None]
    if not waiting or saga.ended_at is not None:
        page.dash.say(f"○ {saga.key} waits for no step that could be answered by hand", "dim")
        return
    question = Question(
        title=f"Skip a step of {saga.id}",
        text="You say what the step answered; the step itself never runs late. The answer is JSON "
        "that fits its reply: null for a command without one, and for an undo made by hand.",
        verb="Answer the step",
        choices=tuple(
            Choice(
                id=str(step.pos),
                label=f"{'undo ' if step.kind == 'undo' else ''}{step.name}",
                verb=f"Answer {step.name}",
            )
            for step in waiting
        ),
        needs_reason=True,
        value="answer",
        is_severe=True,
    )
    _asked(page, question, lambda answer: operate.skip(
        page.dash.data,
        saga.id,
        answer.value.encode(),
        step=int(answer.choice) if len(waiting) > 1 else None,
        reason=answer.reason,
    ), f"skip in {saga.key}")  # fmt: skip


def resolve(page: Page, detail: SagaDetail) -> None:
    """Ends a saga as a person says that it ended: asks how, with what, and why."""
    saga = detail.saga
    if saga.ended_at is not None:
        page.dash.say(f"○ {saga.key} is {saga.state} already", "dim")
        return
    question = Question(
        title=f"Resolve {saga.id}",
        text="The saga ends as you say; nothing more is done, and nothing runs late. Whoever waits "
        "for it is answered with the result, which is JSON that fits what it returns.",
        verb="Resolve the saga",
        choices=(
            Choice(id="completed", label="completed: it was brought to its end by hand",
                   verb="End it as completed"),
            Choice(id="compensated", label="compensated: what it did was undone by hand",
                   verb="End it as compensated"),
        ),
        needs_reason=True,
        value="result",
        is_severe=True,
    )  # fmt: skip

    def ask(answer: Answer) -> list[Request]:
        data, said = page.dash.data, answer.reason
        if answer.choice == "compensated":
            return operate.resolve(data, saga.id, "compensated", reason=said)
        return operate.resolve(data, saga.id, "completed", answer.value.encode(), reason=said)

    _asked(page, question, ask, f"resolution of {saga.key}")


async def _replay_named(page: Page, name: str, what: str) -> None:
    try:
        letter = await page.dash.reader.ask(lambda monitor: monitor.find_letter(name))
    except OutboxdError as error:
        page.dash.say(f"✗ {error.message}", "bad")
    else:
        data = page.dash.data
        page.ask_for(what, lambda: operate.replay(data, [letter]), letters=[letter])


def cancel(page: Page, detail: SagaDetail) -> None:
    """Asks why, then for the saga to be unwound."""
    saga = detail.saga
    if saga.ended_at is not None:
        page.dash.say(f"○ {saga.key} is {saga.state} already", "dim")
        return
    done = [step.name for step in detail.steps if step.state == "done"]
    what = f"Undone, the last first: {', '.join(reversed(done))}." if done else ""
    if detail.is_forward_only:
        what = "It is past its point of no return: outboxd will refuse."
    question = Question(
        title=f"Cancel {saga.id}",
        text=f"What the saga did is undone, then it ends as cancelled. {what}".strip(),
        verb="Cancel the saga",
        needs_reason=True,
    )
    _asked(page, question, lambda answer: operate.cancel(
        page.dash.data, saga.id, reason=answer.reason
    ), f"cancel of {saga.key}")  # fmt: skip


def kill(page: Page, detail: SagaDetail) -> None:
    """Asks why, and for the key to be typed: nothing is undone."""
    saga = detail.saga
    if saga.ended_at is not None:
        page.dash.say(f"○ {saga.key} is {saga.state} already", "dim")
        return
    question = Question(
        title=f"Kill {saga.id}",
        text="The saga ends as it stands. NOTHING is undone: what it did stays done, and what it "
        "asked for may still happen. Cancel is what you want, nearly always.",
        verb="Kill the saga",
        needs_reason=True,
        typed=saga.key,
        is_severe=True,
    )
    _asked(page, question, lambda answer: operate.kill(
        page.dash.data, saga.id, reason=answer.reason
    ), f"kill of {saga.key}")  # fmt: skip


def _asked(
    page: Page, question: Question, ask: Callable[[Answer], list[Request]], what: str
) -> None:
    page.ask(question, lambda answer: page.ask_for(what, lambda: ask(answer)))


def replay(page: Page, letters: list[Letter], what: str) -> None:
    """One letter, or a few, again: nothing is asked."""
    data = page.dash.data
    page.ask_for(f"replay of {what}", lambda: operate.replay(data, letters), letters=letters)


def discard(page: Page, letters: list[Letter], what: str, *, is_group: bool) -> None:
    """Given up for good: asks why, and for a whole group how many they are."""
    data, n = page.dash.data, len(letters)
    if not letters:
        page.dash.say("○ there is nothing to discard", "dim")
        return
    one = n == 1
    question = Question(
        title=f"Discard {what}",
        text=f"{'This letter is' if one else f'These {n:,} letters are'} given up for good and can "
        "never run again. A saga that waits for one is told, and unwinds.",
        verb=f"Discard {n:,}",
        needs_reason=True,
        typed=str(n) if is_group and not one else "",
        is_severe=True,
    )

    def then(answer: Answer) -> None:
        page.ask_for(
            f"discard of {what}",
            lambda: operate.discard(data, letters, reason=answer.reason),
            letters=letters,
        )

    page.ask(question, then)
