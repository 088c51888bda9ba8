"""Dead letters: groups by cause, the letters of one, and all about one; replayed or discarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult

from outboxd.errors import OutboxdError
from outboxd.monitor import LETTER_FIELDS, PAGE, LetterDetail, LetterGroup, LetterRow, Monitor
from outboxd.monitor.filtering import parse, term
from outboxd.store.reading.filters import Term
from outboxd.tui.text import glyph_of, since, spark, tone_of
from outboxd.tui.widgets.lines import Pane, Part, Rule
from outboxd.tui.widgets.rows import Col, Line, Rows

from . import acting
from .ask import Answer, Choice, Question
from .letter import LetterPage, told
from .page import Page

GROUPS = (
    Col(title="HANDLER", width=22, flex=1, cut="middle"),
    Col(title="ERROR", width=24, flex=3),
    Col(title="N", width=6, align=">", sort="largest"),
    Col(title="FIRST", width=5, align=">", drops=2),
    Col(title="LAST", width=5, align=">", sort="latest"),
    Col(title="DIED×", width=5, align=">", drops=1),
    Col(title="REPLAYED", width=8, align=">", drops=3),
    Col(title="TREND 24h", width=12, drops=4),
)

LETTERS = (
    Col(title="ID", width=8, flex=1),
    Col(title="STATE", width=11),
    Col(title="MESSAGE", width=16, flex=1, drops=2),
    Col(title="KEY", width=12, flex=1, sort="key", cut="middle"),
    Col(title="TRY", width=3, align=">", drops=3),
    Col(title="AGE", width=4, align=">", sort="latest"),
    Col(title="DIED×", width=6, align=">", drops=1, sort="deaths"),
    Col(title="ERROR", width=22, flex=4, sort="error"),
)

NOTHING = """Nothing is dead.
A message comes here after its last try, with its error and its payload;
you replay it after a fix, or discard it with a reason."""

FIRST = 5


class Seen(msgspec.Struct, frozen=True):
    """What the screen shows."""

    groups: list[LetterGroup]
    group: str | None
    letters: tuple[LetterRow, ...]
    live: int
    detail: LetterDetail | None


class DeadPage(Page):
    """Screen 2."""

    name_ = "dead"
    hint = "handler:payments  error:Timeout  key:10431  since:3d  !word"

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen | None = None
        self._wanted: str | None = None

    def body(self) -> ComposeResult:
        yield Rows(GROUPS, orders=("largest", "latest"), id="groups")
        yield Rule(id="group-title")
        orders = ("latest", "oldest", "key", "deaths", "error")
        yield Rows(LETTERS, orders=orders, can_mark=True, id="letters")
        yield Rule(id="letter-title")
        yield Pane(id="letter")

    def values(self) -> Mapping[str, Sequence[str]]:
        groups = self.seen.groups if self.seen is not None else []
        rows = self.seen.letters if self.seen is not None else ()
        known = {
            "handler": sorted({group.handler for group in groups}),
            "error": sorted({group.error_type for group in groups}),
            "participant": sorted({group.participant for group in groups}),
            "type": sorted({row.type for row in rows}),
            "key": sorted({row.key for row in rows if row.key}),
            "state": ("dead", "replaying", "replayed", "discarded", "closed"),
        }
        return {field: known.get(field, ()) for field in LETTER_FIELDS}

    # Reading and drawing.

    def look(self) -> Callable[[Monitor], Seen]:
        wanted, self._wanted = self._wanted, None
        group = self.query_one("#groups", Rows).key
        letter = wanted or self.query_one("#letters", Rows).key
        filter_ = self.filter
        return lambda monitor: _seen(monitor, filter_, group, letter, is_wanted=bool(wanted))

    def draw(self, seen: Seen) -> None:
        self.seen = seen
        self.set_class(not seen.groups, "-nothing")
        groups, letters = self.query_one("#groups", Rows), self.query_one("#letters", Rows)
        none = "No letter matches; esc clears the filter." if self.filter else NOTHING
        groups.empty = none
        most = max(2, min(7, (self.size.height - 9) // 4))
        groups.styles.height = 1 + min(most, len(seen.groups)) if seen.groups else "1fr"
        groups.put([_group_line(g, self.now) for g in _sorted_groups(seen.groups, groups.order)])
        if seen.group is not None:
            groups.go(seen.group)
        letters.put([_letter_line(row, self.now) for row in _sorted(seen.letters, letters.order)])
        if seen.detail is not None:
            letters.go(_key(seen.detail.letter))
        total = sum(group.letters for group in seen.groups)
        in_groups = f" in {len(seen.groups)} group{'' if len(seen.groups) == 1 else 's'}"
        self.count(f"{total:,} letter{'' if total == 1 else 's'}{in_groups}")
        self._draw_titles()
        self._draw_letter(seen.detail)

    def _draw_titles(self) -> None:
        seen = self.seen
        letters = self.query_one("#letters", Rows)
        group = self._group()
        bar = self.query_one("#group-title", Rule)
        if seen is None or group is None:
            bar.put([("Letters", "title")])
            return
        right: list[Part] = []
        if letters.marks:
            right.append((f"{len(letters.marks):,} marked   ", "mark"))
        elif len(seen.letters) < group.letters:
            right.append((f"the latest {len(seen.letters):,} of {group.letters:,}   ", "dim"))
        right.append((f"sort: {letters.order} ▾", "dim", "screen.sort"))
        title = [(group.handler, "title"), (f"  {group.error_type}", "bad")]
        bar.put([*title, (f"  {group.letters:,}", "dim")], right)

    def _draw_letter(self, detail: LetterDetail | None) -> None:
        rule, pane = self.query_one("#letter-title", Rule), self.query_one("#letter", Pane)
        if detail is None:
            rule.put([("Letter", "title")])
            pane.put(Text())
            return
        row = detail.letter
        rule.put(
            [(row.name, "title"), (f"  {row.type}  {row.key or ''}  ", "dim"),
             (f"{glyph_of(row.state)} {row.state}", tone_of(row.state))],
            [("enter opens", "dim", "screen.open")],
        )  # fmt: skip
        pane.put(told(detail, self.now, self.tones, is_brief=True))

    def go_to(self, name: str) -> None:
        """Puts the cursor on a letter."""
        self._wanted = name
        self.query_one("#letters", Rows).focus()
        self.dash.wake()

    @on(Rows.Moved, "#groups")
    def _other_group(self) -> None:
        letters = self.query_one("#letters", Rows)
        letters.marks = set()
        self.dash.wake()

    @on(Rows.Moved, "#letters")
    def _other_letter(self, event: Rows.Moved) -> None:
        shown = self.seen.detail if self.seen is not None else None
        if event.key is not None and (shown is None or _key(shown.letter) != event.key):
            self._preview(event.key)

    @work(exclusive=True, group="preview")
    async def _preview(self, key: str) -> None:
        detail = await self.dash.reader.ask(lambda monitor: _detail(monitor, key))
        self._draw_letter(detail)

    @on(Rows.Marked)
    def _marked(self) -> None:
        self._draw_titles()

    # What the cursor is on.

    def _group(self) -> LetterGroup | None:
        key = self.query_one("#groups", Rows).key
        groups = self.seen.groups if self.seen is not None else []
        return next((group for group in groups if _group_key(group) == key), None)

    def _letter(self) -> LetterRow | None:
        key = self.query_one("#letters", Rows).key
        rows = self.seen.letters if self.seen is not None else ()
        return next((row for row in rows if _key(row) == key), None)

    def _marked_letters(self) -> list[acting.Letter]:
        return [_parsed(key) for key in sorted(self.query_one("#letters", Rows).marks)]

    @on(Rows.Opened, "#groups")
    def _opened_group(self) -> None:
        self.query_one("#letters", Rows).focus()

    @on(Rows.Opened, "#letters")
    def _opened(self, event: Rows.Opened) -> None:
        self.app.push_screen(LetterPage(event.key))

    # Keys.

    def action_replay(self) -> None:
        row = self._letter()
        if row is None:
            self.dash.say("○ there is no letter to replay", "dim")
        elif row.state != "dead":
            self.dash.say(f"○ {row.name} is {row.state}", "dim")
        else:
            acting.replay(self, [(row.participant, row.n)], row.name)

    @work(group="acting")
    async def action_replay_many(self) -> None:
        group, marked = self._group(), self._marked_letters()
        if group is None:
            self.dash.say("○ there is nothing to replay", "dim")
            return
        terms = parse(self.filter, LETTER_FIELDS)
        chosen = _terms(_group_key(group))
        in_group = await self.dash.reader.ask(lambda m: m.letter_numbers([*terms, *chosen]))
        matching = await self.dash.reader.ask(lambda m: m.letter_numbers(terms))
        question = _how_many(group, len(marked), len(in_group), len(matching), self.filter)

        def then(answer: Answer) -> None:
            chosen = {"marked": marked, "group": in_group, "all": matching}.get(answer.choice)
            letters = in_group[: answer.number] if chosen is None else chosen
            what = f"{len(letters):,} letters" if len(letters) != 1 else "1 letter"
            acting.replay(self, letters, what)

        self.ask(question, then)

    @work(group="acting")
    async def action_discard(self) -> None:
        group, row, marked = self._group(), self._letter(), self._marked_letters()
        if group is None:
            self.dash.say("○ there is nothing to discard", "dim")
        elif self.query_one("#groups", Rows).has_focus:
            terms = [*parse(self.filter, LETTER_FIELDS), *_terms(_group_key(group))]
            letters = await self.dash.reader.ask(lambda m: m.letter_numbers(terms))
            what = f"all of {group.handler} {group.error_type}"
            acting.discard(self, letters, what, is_group=True)
        elif marked:
            acting.discard(self, marked, f"{len(marked)} marked", is_group=len(marked) > 1)
        elif row is not None:
            acting.discard(self, [(row.participant, row.n)], row.name, is_group=False)

    def action_follow(self) -> None:
        row = self._letter()
        if row is None or row.saga is None:
            self.dash.say("○ no saga waits for this letter", "dim")
        else:
            self.dash.open_saga(row.saga)

    def action_log_of(self) -> None:
        row = self._letter()
        if row is not None:
            self.dash.open_list("log", row.key or row.message_id)

    def action_copy(self) -> None:
        row = self._letter()
        if row is not None:
            self.to_clipboard(f"{row.name}\n{row.message_id}\n{row.error_type}: {row.error}")

    def action_export(self) -> None:
        if self.seen is not None:
            self.write_out("letters", msgspec.to_builtins(self.seen.letters))


def _seen(
    monitor: Monitor, filter_: str, group: str | None, letter: str | None, *, is_wanted: bool
) -> Seen:
    """The groups, and the letters of the one that is chosen or that has the wanted letter."""
    terms = parse(filter_, LETTER_FIELDS)
    groups = monitor.letter_groups(terms)
    names = [_group_key(found) for found in groups]
    if is_wanted and letter is not None:
        group = _group_of(monitor, letter)
    if group not in names:
        group = next(iter(names), None)
    page = monitor.letters([*terms, *_terms(group)], PAGE)
    detail = _detail(monitor, _one_of(page.rows, letter))
    return Seen(groups, group, page.rows, page.live, detail)


def _how_many(
    group: LetterGroup, marked: int, in_group: int, matching: int, filter_: str
) -> Question:
    """The panel of a bulk replay: the marked, the group, its first few, or all that match."""
    cause = f"{group.handler} · {group.error_type}"
    choices = []
    if marked:
        choices.append(Choice(id="marked", label=f"the {marked:,} marked", verb=f"Replay {marked}"))
    choices.append(
        Choice(id="group", label=f"all of {cause}: {in_group:,}", verb=f"Replay {in_group:,}")
    )
    choices.append(
        Choice(
            id="first",
            label="the oldest few of them, to see whether the fix works",
            verb="Replay",
            has_number=True,
        )
    )
    if matching > in_group:
        which = f"all {matching:,} that match {filter_!r}" if filter_ else f"all {matching:,} here"
        choices.append(Choice(id="all", label=which, verb=f"Replay {matching:,}"))
    return Question(
        title="Replay",
        text="Each is handled again under its own id. What succeeds leaves this list, and its saga "
        "goes on; what fails comes back with DIED× raised.",
        verb=f"Replay {in_group:,}",
        choices=tuple(choices),
    )


def _group_key(group: LetterGroup) -> str:
    return f"{group.participant}|{group.handler}|{group.error_type}"


def _group_of(monitor: Monitor, name: str) -> str | None:
    try:
        row = monitor.letter(name).letter
    except OutboxdError:
        return None
    return f"{row.participant}|{row.handler}|{row.error_type}"


def _terms(key: str | None) -> list[Term]:
    """One group, exactly."""
    if key is None:
        return []
    participant, handler, error_type = key.split("|", 2)
    return [term("participant", participant), term("group", f"{handler} {error_type}")]


def _key(row: LetterRow) -> str:
    return f"{row.participant}/d-{row.n}"


def _parsed(key: str) -> acting.Letter:
    participant, _, number = key.rpartition("/d-")
    return participant, int(number)


def _one_of(rows: Sequence[LetterRow], name: str | None) -> str | None:
    keys = [_key(row) for row in rows]
    named = {row.name: _key(row) for row in rows}
    wanted = named.get(name, name) if name is not None else None
    return wanted if wanted in keys else next(iter(keys), None)


def _detail(monitor: Monitor, key: str | None) -> LetterDetail | None:
    if key is None:
        return None
    try:
        return monitor.letter(key)
    except OutboxdError:
        return None


def _sorted_groups(groups: Sequence[LetterGroup], order: str) -> list[LetterGroup]:
    if order == "latest":
        return sorted(groups, key=lambda group: group.last_at, reverse=True)
    return list(groups)


def _sorted(rows: Sequence[LetterRow], order: str) -> list[LetterRow]:
    match order:
        case "oldest":
            return sorted(rows, key=lambda row: row.at)
        case "key":
            return sorted(rows, key=lambda row: row.key or "")
        case "deaths":
            return sorted(rows, key=lambda row: -row.failed)
        case "error":
            return sorted(rows, key=lambda row: (row.error_type, row.error))
        case _:
            return list(rows)


def _group_line(group: LetterGroup, now: datetime) -> Line:
    return Line(
        _group_key(group),
        (
            (group.handler, ""),
            (f"{group.error_type}: {group.error}", "bad"),
            (f"{group.letters:,}", "bold"),
            (since(group.first_at, now), "dim"),
            (since(group.last_at, now), "dim"),
            (f"{group.failed / group.letters:.1f}", "dim"),
            (f"{group.replays:,}" if group.replays else "-", "dim"),
            (spark(group.trend, 12), "live" if any(group.trend) else "dim"),
        ),
    )


def _letter_line(row: LetterRow, now: datetime) -> Line:
    return Line(
        _key(row),
        (
            (row.name, ""),
            (f"{glyph_of(row.state)} {row.state}", tone_of(row.state)),
            (row.type, "dim"),
            (row.key or "-", ""),
            (str(row.attempts), "dim"),
            (since(row.at, now), "dim"),
            (str(row.failed), "warn" if row.failed > 1 else "dim"),
            (f"{row.error_type}: {row.error}", "dim"),
        ),
    )
