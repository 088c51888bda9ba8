"""Every key, once: bindings, footer, help and palette are made from this table.

Lower case looks, or is safe to repeat; UPPER CASE changes something for good; … opens a panel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from textual.binding import Binding
from textual.keys import _character_to_key

from outboxd.errors import ConfigError
from outboxd.words import nearest

LISTS = ("sagas", "dead", "messages", "log")
EVERYWHERE = ("sagas", "saga", "dead", "letter", "flow", "messages", "log")


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """``keys`` are textual's names, with commas; ``shown`` is what people read; ``on``: screens;
    ``changes``: left out where only looking is allowed; ``rank``: the lower, the longer it stays
    in a narrow footer, and 0 is never there.
    """

    id: str
    keys: str
    shown: str
    action: str
    label: str
    text: str
    on: tuple[str, ...]
    changes: bool = False
    rank: int = 0


TABLE = (
    Key(id="open", keys="", shown="enter", action="open", label="Open", rank=1,
        text="Open what the cursor is on", on=("sagas", "dead", "flow", "messages", "log")),
    Key(id="filter", keys="slash", shown="/", action="filter", label="Filter", rank=2,
        text="Filter the list: words, state: type: key: error: age:>5m, ! negates", on=LISTS),
    Key(id="find", keys="slash", shown="/", action="filter", label="Find", rank=6,
        text="Find a text in what is shown; n and N go on", on=("saga", "letter")),
    Key(id="next", keys="n", shown="n", action="seek(1)", label="Next",
        text="The next match", on=(*LISTS, "saga", "letter")),
    Key(id="previous", keys="N", shown="N", action="seek(-1)", label="Previous",
        text="The previous match", on=(*LISTS, "saga", "letter")),
    Key(id="mark", keys="space", shown="space", action="mark", label="Mark", rank=6,
        text="Mark a row, for what is done to many", on=("sagas", "dead")),
    Key(id="mark-all", keys="asterisk", shown="*", action="mark_all", label="Mark all", rank=7,
        text="Mark every row that is shown, or none", on=("sagas", "dead")),
    Key(id="sort", keys="s", shown="s", action="sort", label="Sort", rank=8,
        text="Another order; a click on a column's title is the same",
        on=("sagas", "dead", "messages")),
    # Changes.
    Key(id="replay", keys="r", shown="r", action="replay", label="Replay", rank=3, changes=True,
        text="Replay this letter: its message is handled again", on=("dead", "letter")),
    Key(id="replay-many", keys="R", shown="R", action="replay_many", label="Replay many…", rank=4,
        changes=True, text="Replay the marked letters, the group, or its first few", on=("dead",)),
    Key(id="discard", keys="D", shown="D", action="discard", label="Discard…", rank=5,
        changes=True, text="Give letters up for good; a saga that waits for one unwinds",
        on=("dead", "letter")),
    Key(id="retry", keys="r", shown="r", action="retry", label="Retry", rank=3, changes=True,
        text="Make a stuck saga's step again: replay its letter, or run its code again",
        on=("sagas", "saga")),
    Key(id="retry-many", keys="R", shown="R", action="retry_many", label="Retry many…", rank=6,
        changes=True, text="Retry the marked sagas, or all stuck ones that are shown",
        on=("sagas",)),
    Key(id="cancel", keys="X", shown="X", action="cancel", label="Cancel…", rank=4, changes=True,
        text="Cancel the saga, or the marked ones: what it did is undone, the last step first",
        on=("sagas", "saga")),
    Key(id="skip", keys="S", shown="S", action="skip", label="Skip…", rank=7, changes=True,
        text="Answer the step that it waits for by hand", on=("saga",)),
    Key(id="resolve", keys="E", shown="E", action="resolve", label="End…", rank=8, changes=True,
        text="End it as completed or compensated by hand; nothing more is done", on=("saga",)),
    Key(id="kill", keys="K", shown="K", action="kill", label="Kill…", rank=9, changes=True,
        text="End the saga as it stands: NOTHING is undone", on=("saga",)),
    Key(id="pause", keys="P", shown="P", action="pause", label="Pause…", rank=9, changes=True,
        text="Pause or resume participants: what runs ends, nothing new is begun",
        on=("sagas", "saga", "dead", "flow", "messages")),
    # Views of one thing.
    Key(id="all", keys="a", shown="a", action="show('all')", label="All", rank=6,
        text="All of the history", on=("saga",)),
    Key(id="failures", keys="x", shown="x", action="show('failures')", label="Failures", rank=6,
        text="Only what failed", on=("saga",)),
    Key(id="pending", keys="p", shown="p", action="show('pending')", label="Pending", rank=7,
        text="Only what is not yet answered", on=("saga",)),
    Key(id="pane", keys="tab", shown="tab", action="pane", label="Pane", rank=8,
        text="The next pane", on=EVERYWHERE),
    Key(id="follow", keys="o", shown="o", action="follow", label="Saga", rank=5,
        text="The saga that waits for this", on=("dead", "letter", "messages")),
    Key(id="letter", keys="o", shown="o", action="follow", label="Letter", rank=5,
        text="The dead letter that holds this saga", on=("sagas", "saga")),
    Key(id="log", keys="l", shown="l", action="log_of", label="Log", rank=9,
        text="What the log says about this", on=("sagas", "saga", "dead", "letter", "messages")),
    Key(id="copy", keys="y", shown="y", action="copy", label="Copy", rank=9,
        text="Copy its id, and what it says, to the clipboard",
        on=("sagas", "saga", "dead", "letter", "messages", "log")),
    Key(id="export", keys="w", shown="w", action="export", label="Export", rank=10,
        text="Write it as JSON into the working directory",
        on=("sagas", "saga", "dead", "letter", "messages", "log")),
    Key(id="freeze", keys="f", shown="f", action="freeze", label="Freeze", rank=8,
        text="Freeze the view, never the work; again to go on", on=EVERYWHERE),
    # Everywhere.
    Key(id="sagas", keys="1", shown="1", action="app.screen('sagas')", label="Sagas",
        text="Sagas, trouble first", on=EVERYWHERE),
    Key(id="dead", keys="2", shown="2", action="app.screen('dead')", label="Dead",
        text="Dead letters, by cause", on=EVERYWHERE),
    Key(id="flow", keys="3", shown="3", action="app.screen('flow')", label="Flow",
        text="Each arrow of the data's way: rate, backlog, oldest", on=EVERYWHERE),
    Key(id="messages", keys="4", shown="4", action="app.screen('messages')", label="Messages",
        text="Messages under way", on=EVERYWHERE),
    Key(id="log-screen", keys="5", shown="5", action="app.screen('log')", label="Log",
        text="What operators asked for, and the daemon's log", on=EVERYWHERE),
    Key(id="back", keys="escape", shown="esc", action="back", label="Back",
        text="Back: first clears marks, then the filter, then leaves", on=EVERYWHERE),
    Key(id="theme", keys="t", shown="t", action="app.dark_or_light", label="Theme",
        text="Dark or light", on=EVERYWHERE),
    Key(id="palette", keys="", shown="^p", action="app.command_palette", label="Palette", rank=11,
        text="Every action, screen and theme, by name", on=EVERYWHERE),
    Key(id="help", keys="question_mark", shown="?", action="app.keys", label="Keys", rank=2,
        text="All keys of this screen, searchable; enter runs one", on=EVERYWHERE),
    Key(id="quit", keys="q,ctrl+c,ctrl+q", shown="q", action="app.leave", label="Quit", rank=3,
        text="Leave the dashboard; outboxd goes on", on=EVERYWHERE),
)  # fmt: skip


MOVING = {"down", "up", "j", "k", "pagedown", "pageup", "home", "end", "g", "G", "enter"}
"""Keys of every list, which no action can have."""


def of(screen: str, *, read_only: bool, table: Iterable[Key] = TABLE) -> list[Key]:
    """The keys of a screen; none that changes anything where only looking is allowed."""
    return [key for key in table if screen in key.on and not (key.changes and read_only)]


def rebound(given: Mapping[str, str], origin: str = "[keys]") -> tuple[Key, ...]:
    """The table with other keys for some actions, by their ids.

    Raises ConfigError for an action that there is not, and for a key that has another action
    already on the same screen: found out at the start, not when it is pressed.
    """
    known = {key.id for key in TABLE}
    for action in given.keys() - known:
        near = nearest(action, known)
        raise ConfigError(
            f"{origin}: there is no action {action!r} in the dashboard",
            hint=f"did you mean {near!r}?" if near else f"actions: {', '.join(sorted(known))}",
        )
    table = tuple(_with(key, given.get(key.id)) for key in TABLE)
    for screen in EVERYWHERE:
        taken = dict.fromkeys(MOVING, "what moves the cursor")
        for key in of(screen, read_only=False, table=table):
            for name in filter(None, key.keys.split(",")):
                if name in taken:
                    raise ConfigError(
                        f"{origin}: {key.shown!r} would be both {taken[name]} and {key.id!r}",
                        hint="give one of them another key",
                    )
                taken[name] = repr(key.id)
    return table


def _with(key: Key, pressed: str | None) -> Key:
    if pressed is None:
        return key
    name = _character_to_key(pressed) if len(pressed) == 1 else pressed.lower()
    return msgspec.structs.replace(key, keys=name, shown=pressed)


def bindings(keys: Iterable[Key]) -> list[Binding]:
    """What textual binds. Leaving works even while one types."""
    return [
        Binding(
            key.keys,
            key.action,
            key.label,
            id=key.id,
            show=False,
            tooltip=key.text,
            priority=name.startswith("ctrl+"),
        )
        if len(key.keys.split(",")) == 1
        else Binding(
            name, key.action, key.label, id=key.id, show=False, priority=name.startswith("ctrl+")
        )
        for key in keys
        if key.keys
        for name in key.keys.split(",")
    ]
