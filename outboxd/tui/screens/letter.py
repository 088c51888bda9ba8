"""One dead letter: its error, its message, every attempt, and what was done about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal

from outboxd.monitor import LetterDetail, Monitor
from outboxd.tui.look import Tones
from outboxd.tui.text import ago, brief, glyph_of, tone_of
from outboxd.tui.widgets.lines import Pane, Part, Rule
from outboxd.words import clock_time, counted

from . import acting
from .page import Page

_FOREIGN = re.compile(r"[/\\](?:lib[/\\]python3|site-packages[/\\])")
"""Places in a traceback that are nobody's own: a preview leaves them out."""

_HEADERS = ("id", "source", "subject", "time", "correlationid", "causationid", "idempotencykey")


class LetterPage(Page):
    """One letter; esc returns to the list."""

    name_ = "letter"
    hint = "a text in the error, the message or the attempts"
    finds = True

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.detail: LetterDetail | None = None

    def body(self) -> ComposeResult:
        yield Rule(id="error-title")
        yield Pane(id="error")
        yield Rule(id="below-title")
        with Horizontal(id="below"):
            yield Pane(id="payload")
            yield Pane(id="attempts")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#error").focus()
        self.query_one("#error-title", Rule).put([("Error", "title")])
        self.query_one("#below-title", Rule).put(
            [("Message · attempts · history", "title")], [("y copies", "dim", "screen.copy")]
        )

    def crumbs(self) -> tuple[list[Part], list[Part]]:
        parts: list[Part] = [(" ‹ Dead", "key", "screen.back"), (" › ", "dim")]
        if self.detail is None:
            return [*parts, (self.key, "title")], []
        row = self.detail.letter
        parts += [
            (row.name, "title"),
            (f"  {row.type}  {row.key or ''}  ", "dim"),
            (f"{glyph_of(row.state)} {row.state}", tone_of(row.state)),
            (f"  at {row.handler}", "dim"),
        ]
        return parts, [(f"died {ago(row.at, self.now)} ", "dim")]

    def look(self) -> Callable[[Monitor], LetterDetail]:
        return lambda monitor: monitor.letter(self.key)

    def draw(self, seen: LetterDetail) -> None:
        self.detail = seen
        self.query_one("#error", Pane).put(_error(seen, self.tones, is_brief=False))
        self.query_one("#payload", Pane).put(_message(seen, self.tones))
        told_ = Text()
        for part in _past(seen, self.now, self.tones):
            told_.append_text(part)
        self.query_one("#attempts", Pane).put(told_)

    # Keys.

    def action_replay(self) -> None:
        if self.detail is None:
            return
        row = self.detail.letter
        if row.state != "dead":
            self.dash.say(f"○ {row.name} is {row.state}", "dim")
        else:
            acting.replay(self, [(row.participant, row.n)], row.name)

    def action_discard(self) -> None:
        if self.detail is not None:
            row = self.detail.letter
            acting.discard(self, [(row.participant, row.n)], row.name, is_group=False)

    def action_follow(self) -> None:
        saga = self.detail.letter.saga if self.detail is not None else None
        if saga is None:
            self.dash.say("○ no saga waits for this letter", "dim")
        else:
            self.dash.open_saga(saga)

    def action_log_of(self) -> None:
        if self.detail is not None:
            row = self.detail.letter
            self.dash.open_list("log", row.key or row.message_id)

    def action_copy(self) -> None:
        if self.detail is not None:
            self.to_clipboard(told(self.detail, self.now, self.tones).plain)

    def action_export(self) -> None:
        if self.detail is not None:
            self.write_out(f"letter-{self.key}", msgspec.to_builtins(self.detail))


def told(detail: LetterDetail, now: datetime, tones: Tones, *, is_brief: bool = False) -> Text:
    """All about a letter in one column; ``is_brief``: the end of its traceback only."""
    found = _error(detail, tones, is_brief=is_brief)
    row = detail.letter
    if row.saga is not None and row.state == "dead":
        found.append("saga     ", tones["head"])
        found.append(f"{row.saga} waits for it\n", tones["warn"])
    if row.reason:
        found.append("reason   ", tones["head"])
        found.append(f"{row.reason}\n")
    for part in _past(detail, now, tones):
        found.append_text(part)
    found.append_text(_message(detail, tones))
    return found


def _error(detail: LetterDetail, tones: Tones, *, is_brief: bool) -> Text:
    row = detail.letter
    found = Text()
    found.append(f"{row.error_type}: {row.error}\n", tones["bad"])
    lines = detail.traceback.rstrip().splitlines()
    places = [line for line in lines if line.lstrip().startswith("File ")]
    if is_brief:
        own = [line for line in places if not _FOREIGN.search(line)]
        for line in (own or places)[-2:]:
            found.append(f"  {line.strip()}\n", tones["dim"])
        return found
    for line in lines:
        tone = "" if line.lstrip().startswith("File ") else "dim"
        found.append(f"{line}\n", tones[tone])
    return found


def _message(detail: LetterDetail, tones: Tones) -> Text:
    if detail.text is not None:
        return Text(detail.text + "\n")
    found = Text()
    found.append("payload\n", tones["head"])
    body = msgspec.json.format(msgspec.json.encode(detail.data), indent=2).decode()
    found.append(f"{body}\n")
    found.append("headers\n", tones["head"])
    for name in _HEADERS:
        if detail.envelope.get(name):
            found.append(f"  {name:<15} ", tones["dim"])
            found.append(f"{detail.envelope[name]}\n")
    return found


def _past(detail: LetterDetail, now: datetime, tones: Tones) -> Iterable[Text]:
    row = detail.letter
    yield Text("attempts ", tones["head"])
    yield Text(f"{row.attempts}", tones[""])
    again = f", died {counted(row.failed, 'time')}, replayed {row.replays}" if row.replays else ""
    yield Text(f"{again}\n", tones["warn"])
    for attempt in detail.attempts:
        when = clock_time(attempt.at, now)[-12:]
        yield Text(f"  {attempt.n}  {when}  {brief(attempt.took_s):>6}  ", tones["dim"])
        yield Text(f"{attempt.outcome}\n", tones["bad" if "gave" in attempt.outcome else ""])
    for done in detail.history:
        why = f": {done.reason}" if done.reason else ""
        yield Text(f"  {done.did} ", tones["live"])
        yield Text(f"{ago(done.at, now)} by {done.who}{why}\n", tones["dim"])
