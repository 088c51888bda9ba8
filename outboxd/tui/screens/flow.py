"""The data's way, arrow by arrow: rate, what is in hand, the oldest, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.widgets import Static

from outboxd.monitor import Flow, Handled, Monitor, Sent
from outboxd.tui.refresh import Trend, Trends
from outboxd.tui.text import brief, count, glyph_of, rate, since, size, spark, tone_of, until
from outboxd.tui.widgets.lines import Part, Rule
from outboxd.tui.widgets.rows import Cell, Col, Line, Rows

from . import pausing
from .page import Page

SPARK = 14

ARROWS = (
    Col(title="ARROW", width=30, flex=2, cut="middle"),
    Col(title="RATE", width=7, align=">"),
    Col(title="IN HAND", width=7, align=">"),
    Col(title="RETRY", width=5, align=">", drops=4),
    Col(title="OLDEST", width=6, align=">"),
    Col(title="p50", width=6, align=">", drops=3),
    Col(title="p95", width=6, align=">", drops=2),
    Col(title="LAST 60 s", width=SPARK, drops=5),
    Col(title="LAST ERROR", width=10, flex=3, drops=1),
)

_LATE_S = 5.0
"""What waits longer than this on an arrow is yellow."""


class Seen(msgspec.Struct, frozen=True):
    """What the screen shows."""

    flow: Flow


class FlowPage(Page):
    """Screen 3."""

    name_ = "flow"

    def body(self) -> ComposeResult:
        yield Rule(id="flow-title")
        yield Rows(ARROWS, id="arrows")
        yield Static(id="about")
        yield Rule(id="disk")
        yield Rule(id="disk-more")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#flow-title", Rule).put(
            [("Flow", "title"), ("   p50 and p95: from a saga's call to its answer", "dim")],
            [("◆ the oldest in hand", "dim")],
        )
        self.query_one("#arrows", Rows).focus()

    def look(self) -> Callable[[Monitor], Flow]:
        return lambda monitor: monitor.flow()

    def draw(self, seen: Flow) -> None:
        rows = self.query_one("#arrows", Rows)
        rows.empty = "No participant has any data yet: outboxd run starts some."
        overview = self.dash.overview
        paused = {h.participant: h.paused for h in overview.participants} if overview else {}
        rows.put(list(arrows(seen, self.dash.trends, self.now, paused)))
        self._draw_about()
        data = sum(disk.database for disk in seen.disks)
        log = sum(disk.log for disk in seen.disks)
        parts: list[Part] = [(f"{len(seen.disks)} databases ", "title"), (size(data), "")]
        parts += [(f"  wal {size(log)}", "dim"), (f"  {size(seen.free_bytes)} free", _free(seen))]
        self.query_one("#disk", Rule).put(parts, _broker(self))
        largest = sorted(seen.disks, key=lambda disk: -disk.database)
        texts = [(f"{disk.name} {size(disk.database)}   ", "dim") for disk in largest]
        self.query_one("#disk-more", Rule).put([*texts])

    @on(Rows.Moved, "#arrows")
    def _draw_about(self) -> None:
        """What a narrow column cannot hold: the whole of the last error, or of a pause."""
        rows = self.query_one("#arrows", Rows)
        text, tone = rows.lines[rows.at].cells[-1] if rows.lines else ("-", "")
        name = rows.lines[rows.at].cells[0][0].strip() if rows.lines else ""
        about = self.query_one("#about", Static)
        about.display = text != "-"
        about.update(Text.assemble((f"{name}   ", "bold"), (text, self.tones[tone])))

    # Keys.

    @on(Rows.Opened, "#arrows")
    def _opened(self, event: Rows.Opened) -> None:
        name = self._participant()
        if event.key == "letters":
            self.dash.open_list("dead")
        elif event.key == "timers":
            self.dash.open_list("sagas", "state:waiting")
        elif event.key.startswith("inbox "):
            self.dash.open_list("messages", f"participant:{name} state:!sending,delayed")
        else:
            ends = [f"participant:{end}" for end in event.key.split(">") if end in self._known]
            self.dash.open_list("messages", f"{' '.join(ends)} state:sending,delayed")

    def action_pause(self) -> None:
        pausing.ask_which(self, self._participant())

    @property
    def _known(self) -> set[str]:
        overview = self.dash.overview
        return {health.participant for health in overview.participants} if overview else set()

    def _participant(self) -> str | None:
        """Whose arrow the cursor is on."""
        key = self.query_one("#arrows", Rows).key or ""
        return key.removeprefix("inbox ").partition(">")[0] or None


def _free(flow: Flow) -> str:
    return "bad" if flow.free_bytes < 200_000_000 else "dim"


def _broker(page: Page) -> list[Part]:
    overview = page.dash.overview
    if overview is None or overview.daemon.state == "down":
        return [("outboxd is not running", "bad")]
    daemon = overview.daemon
    if daemon.broker.state == "down":
        span = since(daemon.broker.since, page.now)
        return [(f"broker down {span}: {daemon.broker.error or ''}", "bad")]
    return [(f"broker up {since(daemon.broker.since, page.now)}", "good")]


def arrows(
    flow: Flow, trends: Trends, now: datetime, paused: Mapping[str, str | None]
) -> Iterable[Line]:
    """A line for each stream and each participant, in the order of the data's way."""
    waiting = [sent.oldest_at for sent in flow.sent] + [h.oldest_at for h in flow.handled]
    oldest = min((at for at in waiting if at is not None), default=None)
    for handled in flow.handled:
        yield _handled(handled, trends, now, oldest, paused.get(handled.participant))
        for sent in flow.sent:
            if sent.sender == handled.participant:
                yield _sent(sent, trends[f"{sent.sender}>{sent.to}"], now, oldest)
    timers = sum(handled.timers for handled in flow.handled)
    next_at = min((h.next_timer_at for h in flow.handled if h.next_timer_at), default=None)
    yield Line(
        "timers",
        _cells("timers → outbox", None, timers, "", until(next_at, now), ("-", "dim")),
    )
    letters = sum(handled.letters for handled in flow.handled)
    since_at = min((h.letters_oldest_at for h in flow.handled if h.letters_oldest_at), default=None)
    tone = "bad" if letters else ""
    yield Line(
        "letters",
        _cells("give up → dead letters", None, letters, tone, since(since_at, now), ("-", "dim")),
    )


def _handled(
    handled: Handled,
    trends: Trends,
    now: datetime,
    oldest: datetime | None,
    paused: str | None,
) -> Line:
    waiting = handled.waiting + handled.retrying + handled.running + handled.held
    fault: Cell = ("-", "dim")
    if handled.fault is not None and handled.fault_at is not None:
        line = handled.fault.strip().splitlines()[-1]
        fault = (f"{since(handled.fault_at, now)} {line}", "bad" if handled.letters else "warn")
    if paused is not None:
        fault = (f"{glyph_of('paused')} paused {paused}", tone_of("paused"))
    is_oldest = handled.oldest_at is not None and handled.oldest_at == oldest
    return Line(
        f"inbox {handled.participant}",
        _cells(
            f"inbox → {handled.participant}{'  ◆' if is_oldest else ''}{_mark(paused)}",
            trends[f"done {handled.participant}"],
            waiting,
            _late(handled.oldest_at, now),
            since(handled.oldest_at, now),
            fault,
            retrying=handled.retrying,
            spans=(handled.p50_s, handled.p95_s),
        ),
    )


def _mark(paused: str | None) -> str:
    return "" if paused is None else f"  {glyph_of('paused')} paused"


def _sent(sent: Sent, trend: Trend, now: datetime, oldest: datetime | None) -> Line:
    to = sent.to or "events"
    mark = "  ◆" if sent.oldest_at is not None and sent.oldest_at == oldest else ""
    return Line(
        f"{sent.sender}>{sent.to}",
        _cells(
            f"  {sent.sender} → {to}{mark}",
            trend,
            sent.waiting,
            _late(sent.oldest_at, now),
            since(sent.oldest_at, now),
            ("-", "dim"),
        ),
    )


def _late(at: datetime | None, now: datetime) -> str:
    return "warn" if at is not None and (now - at).total_seconds() > _LATE_S else ""


def _cells(
    name: str,
    trend: Trend | None,
    in_hand: int,
    tone: str,
    oldest: str,
    fault: Cell,
    *,
    retrying: int = 0,
    spans: Sequence[float | None] = (None, None),
) -> tuple[Cell, ...]:
    p50, p95 = ("-" if span is None else brief(span) for span in spans)
    is_inner = name.startswith("  ")
    return (
        (name, "dim" if is_inner else "bold"),
        (rate(trend.rate) if trend is not None else "-", ""),
        (count(in_hand) if in_hand else "-", tone or ("" if in_hand else "dim")),
        (count(retrying) if retrying else "-", "warn" if retrying else "dim"),
        (oldest, tone or "dim"),
        (p50, "dim"),
        (p95, "dim"),
        _spark(trend),
        fault,
    )


def _spark(trend: Trend | None) -> Cell:
    if trend is None:
        return "", ""
    return spark(trend.values, SPARK), "live" if any(trend.values) else "dim"
