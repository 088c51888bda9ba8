"""``outboxd prove``: explores what may go wrong with the plugins' sagas; exit 1 on a violation."""

from __future__ import annotations

import json
import os
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outboxd.settings import Settings

from . import exits
from .hosting import chosen, registry_of
from .options import with_output, with_settings
from .output import Output, Standing

if TYPE_CHECKING:
    from outboxd.prove.explore import Found, Tally


def _bound(names: str, default: Any, kind: click.ParamType[Any], says: str) -> Any:
    return click.option(*names.split(), default=default, show_default=True, type=kind, help=says)


_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)

_BOUNDS = (
    _bound(
        "--faults", 2, click.IntRange(0, 4), "At most so many failures in each systematic schedule."
    ),
    click.option(
        "--start",
        "starts",
        multiple=True,
        nargs=2,
        metavar="TYPE JSON",
        help="A message that starts a saga, instead of the plugins' examples; repeatable.",
    ),
    _bound("--instances", 2, click.IntRange(1, 5), "Sagas at once, for races between them."),
    click.option(
        "--jobs",
        default=os.cpu_count() or 1,
        show_default="one per core",
        type=click.IntRange(1, 64),
        help="Processes that share the work.",
    ),
    _bound("--seed", 0, click.INT, "Of the random schedules: the same one, the same schedules."),
    _bound(
        "--from first_run", 0, click.IntRange(0), "Go on with the random schedules at this number."
    ),
    _bound(
        "--random random_s",
        5.0,
        click.FloatRange(0),
        "Seconds for random schedules after the systematic ones.",
    ),
    _bound("--limit limit_s", 600.0, click.FloatRange(1), "Seconds for everything."),
    _bound(
        "--horizon horizon_d",
        30.0,
        click.FloatRange(0.001),
        "Virtual days after which a saga is taken to wait for ever.",
    ),
    _bound(
        "--out folder",
        Path(".outboxd-prove"),
        _FOLDER,
        "Where a violation and its test are written.",
    ),
    click.option(
        "--follow",
        "again",
        metavar="FILE",
        type=_FILE,
        help="Run only the schedule of a violation.json that was written before.",
    ),
)
"""What a proof is told: where to stop, and from where to begin."""


def with_bounds(command: Any) -> Any:
    """A command with all of them."""
    for option in reversed(_BOUNDS):
        command = option(command)
    return command


@click.command()
@click.argument("names", metavar="[PLUGIN]...", nargs=-1)
@with_bounds
@with_settings
@with_output
def prove(
    settings: Settings,
    out: Output,
    names: tuple[str, ...],
    folder: Path,
    again: Path | None,
    **options: Any,
) -> None:
    """Explore every failure path of the sagas against the invariants.

    Runs the plugins' real code in a simulated world: virtual time, databases and broker in memory,
    and at every step whatever may go wrong there: processes killed, messages lost, repeated and
    late, handlers that fail, operators that cancel. What participants do every so often happens
    twice, the first time at any moment. No daemon and no broker are needed.

    \b
      outboxd prove
      outboxd prove plugins.orders plugins.payments --faults 1
      outboxd prove shop.py --start PlaceOrder '{"order_id": "1", "cents": 5}'
    """
    if again is not None:
        _follow(out, names, again)
        return
    from outboxd.prove import report, session
    from outboxd.prove.following import message_of

    plugins = chosen(names, settings)
    registry = registry_of(plugins)
    starts = [
        message_of(registry, name, text.encode(), "--start") for name, text in options.pop("starts")
    ]
    horizon_s = options.pop("horizon_d") * 86_400
    line = _Line(out)
    proof = session.prove(
        registry, starts, session.Settings(horizon_s=horizon_s, **options), line.show
    )
    line.end()
    if out.is_json:
        out.document(report.document(proof))
    else:
        _print(out, proof, report)
    if proof.found is not None:
        data, test = report.write(proof, proof.found, plugins, folder)
        out.say(f"the schedule is in {data}, a test that reproduces it in {test}")
        raise exits.Stop(exits.FAILED)


def _print(out: Output, proof: Any, report: Any) -> None:
    for text in (*report.bounds(proof), report.speed(proof)):
        _line(out, text)
    if proof.found is None:
        out.line(out.painted("everything holds", "green", bold=True))
        return
    out.line("")
    _print_found(out, proof.found, report)


def _print_found(out: Output, found: Found, report: Any) -> None:
    for text in report.violation(found):
        is_bad = text.startswith("VIOLATED") or "✗" in text
        _line(out, text, "red" if is_bad else None)


def _line(out: Output, text: str, colour: str | None = None) -> None:
    """A line; on a terminal it is wrapped below where its last column begins."""
    lines = [text]
    if out.is_tty and len(text) > out.width:
        hanging = min(max(text.rfind("  ") + 2, 2), out.width // 2)
        lines = textwrap.wrap(
            text, out.width, subsequent_indent=" " * hanging, break_on_hyphens=False
        )
    for line in lines:
        out.line(out.painted(line, colour) if colour else line)


def _follow(out: Output, names: tuple[str, ...], file: Path) -> None:
    """One schedule again; ends with code 1 as long as something does not hold."""
    from outboxd.prove import following, report

    saved = following.read(file)
    registry = registry_of(names or saved.plugins)
    messages = [
        following.message_of(registry, start["type"], json.dumps(start["data"]).encode(), str(file))
        for start in saved.starts
    ]
    came = following.follow(registry, messages, saved.schedule, saved.horizon_s)
    if out.is_json:
        out.document(report.document_of(came.found) | {"missed": came.missed})
    elif came.found is not None:
        _print_found(out, came.found, report)
    else:
        out.line(out.painted("everything holds in this schedule", "green", bold=True))
    for text in came.missed:
        out.say(f"this failure of the schedule did not come by: {text}")
    if came.found is not None:
        raise exits.Stop(exits.FAILED)


class _Line:
    """The progress line, where there is a terminal."""

    def __init__(self, out: Output) -> None:
        self._line = Standing(is_wanted=not out.is_json)
        self._began = time.monotonic()
        self._what = ""
        self._what_began = 0.0

    def show(self, what: str, tally: Tally) -> None:
        """Draws over what was drawn before."""
        if not self._line.is_shown:
            return
        now = time.monotonic()
        if what != self._what:
            self._what, self._what_began = what, now
        done = tally.covered + tally.random
        share = f" {done * 100 // max(tally.total, done):>3} %" if tally.total else ""
        per_s = done / max(now - self._what_began, 0.001)
        text = f"{what}:{share} {done:,} schedules, {per_s:,.0f}/s, {now - self._began:.0f} s"
        self._line.show(text[:78])

    def end(self) -> None:
        """Takes the line away."""
        self._line.end()
