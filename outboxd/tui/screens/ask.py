"""The panel that asks before something is done: what it does, how many, and why.

It docks at the bottom and leaves what it is about in view. Nothing dangerous has the focus: enter,
pressed by habit, does nothing.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label

from outboxd.tui.widgets.choices import Choices
from outboxd.tui.widgets.lines import Rule


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One of several things that can be meant; ``has_number``: as many of them as are typed;
    ``is_free``: no reason need be given for it.
    """

    id: str
    label: str
    verb: str
    has_number: bool = False
    is_free: bool = False


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """``typed``: what must be typed to go on; ``value``: the name of a JSON value that is asked
    for; ``chosen``: which of the choices at first; ``is_severe`` paints the panel red;
    ``interrupted``: what ctrl+c chooses, if not to do nothing.
    """

    title: str
    text: str
    verb: str
    choices: tuple[Choice, ...] = ()
    chosen: int = 0
    needs_reason: bool = False
    typed: str = ""
    value: str = ""
    is_severe: bool = False
    interrupted: str = ""
    no: str = "Do nothing"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided."""

    choice: str = ""
    number: int = 0
    reason: str = ""
    value: str = ""


LEAVING = Question(
    title="Leave",
    text="outboxd runs beside this view, started by the same command.",
    verb="Stop outboxd",
    choices=(
        Choice(id="stop", label="stop outboxd: what is in hand is finished", verb="Stop outboxd"),
        Choice(id="view", label="close the view only: outboxd goes on in this terminal",
               verb="Close the view"),
    ),
    interrupted="stop",
    no="Stay",
)  # fmt: skip


class Ask(ModalScreen[Answer | None]):
    """Asks one question; the answer is None for no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "no", "No"),
        Binding("n", "no", "No"),
        Binding("y", "yes", "Yes"),
        Binding("ctrl+c", "interrupt", "No", priority=True),
    ]

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        asked = self.question
        with Vertical(id="panel", classes="severe" if asked.is_severe else ""):
            yield Rule(id="title")
            yield Label(asked.text, id="text")
            if asked.choices:
                labels = [choice.label for choice in asked.choices]
                yield Choices(labels, at=asked.chosen, id="choices")
                if any(choice.has_number for choice in asked.choices):
                    with Horizontal(classes="field"):
                        yield Label("how many ")
                        yield Input("5", id="number", compact=True, type="integer")
            if asked.value:
                with Horizontal(classes="field"):
                    yield Label(f"{asked.value:<9}")
                    yield Input("null", id="value", compact=True)
            if asked.needs_reason:
                with Horizontal(classes="field"):
                    yield Label("reason   ")
                    yield Input(
                        placeholder="for whoever reads the audit trail later",
                        id="reason",
                        compact=True,
                    )
            if asked.typed:
                with Horizontal(classes="field"):
                    yield Label(f"type {asked.typed} ")
                    yield Input(id="typed", compact=True)
            with Horizontal(id="buttons"):
                yield Button(f"{asked.no}  n", id="no", compact=True)
                yield Button(f"{self._verb}  y", id="yes", compact=True)
                yield Label("", id="missing")

    def on_mount(self) -> None:
        self.query_one("#title", Rule).put(
            [(self.question.title, "bad" if self.question.is_severe else "title")],
            [("esc: nothing is done", "dim")],
        )
        for field in self.query(Input):
            field.cursor_blink = False
        first = self.query("#choices") or self.query("#reason") or self.query("#no")
        first.first().focus()
        self._rechosen()

    # What is chosen.

    @property
    def _chosen(self) -> Choice | None:
        if not self.question.choices:
            return None
        if not self.is_mounted:
            return self.question.choices[self.question.chosen]
        return self.question.choices[self.query_one("#choices", Choices).at]

    @property
    def _verb(self) -> str:
        chosen = self._chosen
        return self.question.verb if chosen is None else chosen.verb

    @property
    def _reason(self) -> str:
        return self.query_one("#reason", Input).value.strip() if self.question.needs_reason else ""

    def _missing(self) -> str:
        chosen = self._chosen
        is_free = chosen is not None and chosen.is_free
        if self.question.needs_reason and not self._reason and not is_free:
            return "a reason is needed"
        if self.question.typed and self.query_one("#typed", Input).value != self.question.typed:
            return f"type {self.question.typed} to go on"
        if chosen is not None and chosen.has_number and self._number < 1:
            return "how many?"
        return ""

    @property
    def _number(self) -> int:
        text = self.query_one("#number", Input).value if self.query("#number") else ""
        return int(text) if text.isdigit() else 0

    def _say_missing(self) -> None:
        missing = self._missing()
        self.query_one("#missing", Label).update(missing)
        self.query_one("#yes", Button).disabled = bool(missing)

    # Events.

    @on(Choices.Changed)
    def _rechosen(self) -> None:
        verb = self._verb
        chosen = self._chosen
        if chosen is not None and chosen.has_number:
            verb = f"{verb} {self._number}"
        for field in self.query("#number"):
            assert field.parent is not None
            field.parent.display = chosen is not None and chosen.has_number
        self.query_one("#yes", Button).label = f"{verb}  y"
        self._say_missing()

    @on(Input.Changed)
    def _typed(self) -> None:
        self._rechosen()

    @on(Input.Submitted)
    def _entered(self) -> None:
        self.focus_next()

    @on(Button.Pressed, "#no")
    def action_no(self) -> None:
        self.dismiss(None)

    def action_interrupt(self) -> None:
        choice = self.question.interrupted
        self.dismiss(Answer(choice=choice) if choice else None)

    @on(Button.Pressed, "#yes")
    def action_yes(self) -> None:
        if self._missing():
            self._say_missing()
            return
        chosen = self._chosen
        self.dismiss(
            Answer(
                choice=chosen.id if chosen else "",
                number=self._number,
                reason=self._reason,
                value=self.query_one("#value", Input).value if self.question.value else "",
            )
        )
