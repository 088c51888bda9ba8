"""Pausing and resuming participants: asks which, says what lies there, and wants a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outboxd import operate
from outboxd.monitor import Health
from outboxd.store.control import Request

from .ask import Answer, Choice, Question

if TYPE_CHECKING:
    from .page import Page

_TEXT = (
    "A paused participant reads no message, begins no attempt and fires no timer; what runs ends "
    "as usual. What is sent to it is kept, deadlines get the time back, and a pause outlives a "
    "restart."
)
_ALL = "*"
"""Every participant; no participant can be called so."""


def ask_which(page: Page, near: str | None = None) -> None:
    """One panel for both ways; ``near`` is the participant that the cursor is on."""
    overview = page.dash.overview
    found = overview.participants if overview is not None else ()
    if not found:
        page.dash.say("○ there is no participant here yet", "dim")
        return
    choices = tuple(_choices(found))
    names = [choice.id.partition(" ")[2] for choice in choices]
    question = Question(
        title="Pause or resume",
        text=_TEXT,
        verb="Pause",
        choices=choices,
        chosen=names.index(near) if near in names else 0,
        needs_reason=True,
    )

    def then(answer: Answer) -> None:
        verb, _, name = answer.choice.partition(" ")
        page.ask_for(
            f"{verb} of {'every participant' if name == _ALL else name}",
            lambda: _asked(page, verb, _names(found, verb, name), answer.reason),
        )

    page.ask(question, then)


def _asked(page: Page, verb: str, names: list[str], reason: str) -> list[Request]:
    act = operate.pause if verb == "pause" else operate.resume
    return act(page.dash.data, names, reason=reason)


def _names(found: tuple[Health, ...], verb: str, name: str) -> list[str]:
    if name != _ALL:
        return [name]
    return [h.participant for h in found if (h.paused is None) == (verb == "pause")]


def _choices(found: tuple[Health, ...]) -> list[Choice]:
    """A line for each participant, then one for all that can be paused, and resumed."""
    choices = [_choice(health) for health in found]
    running = sum(health.paused is None for health in found)
    if running > 1:
        label = f"pause all {running} that run" if running < len(found) else "pause all of them"
        choices.append(Choice(id=f"pause {_ALL}", label=label, verb=f"Pause {running}"))
    paused = len(found) - running
    if paused > 1:
        choices.append(
            Choice(
                id=f"resume {_ALL}",
                label=f"resume all {paused} that are paused",
                verb=f"Resume {paused}",
                is_free=True,
            )
        )
    return choices


def _choice(health: Health) -> Choice:
    name = health.participant
    if health.paused is not None:
        label = f"resume {name}: paused {health.paused}"
        return Choice(id=f"resume {name}", label=label, verb=f"Resume {name}", is_free=True)
    held = health.waiting + health.retrying + health.held
    label = f"pause {name}: {health.running:,} running, {held:,} wait in its inbox"
    if not health.running and not held:
        label = f"pause {name}: it has nothing in hand"
    return Choice(id=f"pause {name}", label=label, verb=f"Pause {name}")
