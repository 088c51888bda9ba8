"""The filter line: words and field:value, with suggestions from what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input


class Words(Suggester):
    """Completes the last word: a field, or after its colon a value from the data."""

    def __init__(self, values: Callable[[], Mapping[str, Iterable[str]]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._values = values

    async def get_suggestion(self, value: str) -> str | None:
        head, space, word = value.rpartition(" ")
        if not word:
            return None
        found = completed(word, self._values())
        return None if found is None else f"{head}{space}{found}"


def completed(word: str, values: Mapping[str, Iterable[str]]) -> str | None:
    """The first completion of a word of a filter."""
    bang = "!" if word.startswith("!") else ""
    field, colon, rest = word.removeprefix("!").partition(":")
    if not colon:
        near = next((name for name in values if name.startswith(field) and name != field), None)
        return None if near is None else f"{bang}{near}:"
    inner, known = rest.removeprefix("!"), values.get(field, ())
    head, comma, last = inner.rpartition(",")
    mark = "!" if rest.startswith("!") else ""
    for choice in known:
        if choice.startswith(last) and choice != last:
            return f"{bang}{field}:{mark}{head}{comma}{choice}"
    return None


class FilterLine(Input):
    """Enter and down return to the list and keep the filter; esc clears it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave(True)", "Clear", show=False),
        Binding("enter,down", "leave(False)", "Back to the list", show=False),
        Binding("tab", "complete", "Complete", show=False),
    ]

    DEFAULT_CSS = """
    FilterLine { height: 1; border: none; padding: 0; background: transparent; width: 1fr; }
    FilterLine:focus { border: none; background-tint: transparent; }
    """

    class Left(Message):
        """Back to the list."""

    def __init__(self, values: Callable[[], Mapping[str, Iterable[str]]], *, hint: str) -> None:
        super().__init__(
            placeholder=hint, suggester=Words(values), compact=True, select_on_focus=False
        )
        self.cursor_blink = False

    def action_leave(self, is_cleared: bool) -> None:
        if is_cleared:
            self.value = ""
        self.post_message(self.Left())

    def action_complete(self) -> None:
        if self._suggestion:
            self.action_cursor_right()
        else:
            self.post_message(self.Left())
