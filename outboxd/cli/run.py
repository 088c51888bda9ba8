"""``outboxd run``: the daemon, with one line of progress and a summary."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from outboxd import settings as settings_module
from outboxd.clock import in_words
from outboxd.settings import Settings

from . import exits
from .hosting import chosen, registry_of
from .options import with_data
from .output import counted
from .progress import Line, set_up_logging

if TYPE_CHECKING:
    from outboxd.registry import Registry
    from outboxd.runtime import Progress
    from outboxd.serving import Summary

_SHOWN_VIOLATIONS = 20

_ALWAYS_SAID = ("started", "completed", "compensated", "stuck")
"""Also where it is none; with the rest it would not fit on a line."""

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("plugins", metavar="[PLUGIN]...", nargs=-1)
@click.option("--data", type=_FOLDER, help="The data directory (default: outboxd-data).")
@click.option(
    "--redis", metavar="URL", help="A Redis or Valkey server instead of the embedded one."
)
@click.option("--config", type=_FILE, help="A settings file instead of ./outboxd.toml.")
@click.option("--feed", type=_FILE, help="Messages to take in, one JSON object a line.")
@click.option("--until-idle", is_flag=True, help="End when nothing is under way, and check.")
@click.option("--verbose", is_flag=True, help="The whole log on stderr.")
@click.option("--ui", is_flag=True, help="Show the dashboard; outboxd runs beside it.")
@click.option("--ascii", "is_plain", is_flag=True, help="With --ui: plain characters.")
def run(
    plugins: tuple[str, ...],
    data: Path | None,
    redis: str | None,
    config: Path | None,
    feed: Path | None,
    *,
    until_idle: bool,
    verbose: bool,
    ui: bool,
    is_plain: bool,
) -> None:
    """Host plugins: the daemon.

    A PLUGIN is a module, a .py file or a folder; without any, the folder ./plugins.

    \b
      outboxd run
      outboxd run plugins.payments shop.py --data /var/lib/outboxd
      outboxd run --feed orders.jsonl --until-idle
      outboxd run --ui                        with the dashboard

    A line of the feed is {"type": "PlaceOrder", "data": {…}}, if wanted with "id" and "key"; a line
    that cannot be taken is named, and the rest goes on. Ctrl-C and SIGTERM finish what is in hand;
    a second Ctrl-C stops at once, which is as safe as a crash: nothing committed is lost.

    Exit 0 after a clean stop; with --until-idle 1 if a saga is stuck or an invariant is violated.
    """
    settings = settings_module.load({"data": data, "redis": redis}, config=config)
    if ui:
        from .beside import run_beside

        looks = ["--ascii"] if is_plain else []
        looks += [] if config is None else ["--config", str(config)]

        raise exits.Stop(run_beside(_without_ui(), settings.data, looks))
    line = Line()
    set_up_logging(settings.data, settings.log, line, verbose=verbose)
    names = chosen(plugins, settings)
    registry = registry_of(names)
    if feed is not None and not feed.is_file():
        raise exits.Usage(
            f"there is no file {feed}", "--feed takes a file with a JSON object a line"
        )
    _say_start(registry, settings, line)
    summary = _serve(registry, settings, feed, line, until_idle=until_idle)
    line.end()
    _say_end(summary, settings)
    raise exits.Stop(_code(summary, until_idle=until_idle))


def _without_ui() -> list[str]:
    """The arguments of this command, for the process that is the runtime."""
    given = click.get_current_context().params
    found = list(given["plugins"])
    for name in ("data", "redis", "config", "feed"):
        if given[name] is not None:
            found += [f"--{name}", str(given[name])]
    return found + [f"--{n.replace('_', '-')}" for n in ("until_idle", "verbose") if given[n]]


def _serve(
    registry: Registry, settings: Settings, feed: Path | None, line: Line, *, until_idle: bool
) -> Summary:
    from outboxd import serving

    def part() -> None:
        line.end()
        line.say("stopped at once; what was committed is safe, the rest is done at the next start")

    report: Callable[[Progress], None] = line.show
    serve = functools.partial(
        serving.serve,
        registry,
        settings,
        feed=feed,
        until_idle=until_idle,
        report=report,
        part=part,
    )
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    try:
        return anyio.run(serve, backend_options={"use_uvloop": has_uvloop})
    finally:
        line.end()


def _say_start(registry: Registry, settings: Settings, line: Line) -> None:
    names = ", ".join(sorted(registry.participants))
    broker = settings_module.redacted(settings.redis) if settings.redis else "embedded broker"
    line.say(f"outboxd hosts {names}; data in {settings.data}, {broker}")
    for warning in registry.unowned():
        line.around(f"{click.style('warning:', fg='yellow')} {warning}")


def _say_end(summary: Summary, settings: Settings) -> None:
    colour = exits.wants_colour()
    for text in summary_lines(summary):
        click.echo(text)
    progress = summary.progress
    for number, command in (
        (progress.dead, "outboxd dead list"),
        (progress.stuck, "outboxd saga list --state stuck"),
    ):
        if number:
            click.echo(f"  see {with_data(command, settings)}")
    for sentence in summary.violations[:_SHOWN_VIOLATIONS]:
        click.echo(f"{click.style('violated:', fg='red')} {sentence}", color=colour)
    if len(summary.violations) > _SHOWN_VIOLATIONS:
        click.echo(f"  and {len(summary.violations) - _SHOWN_VIOLATIONS} more: outboxd audit")


def summary_lines(summary: Summary) -> list[str]:
    """How the run ended, for a person."""
    progress = summary.progress
    took = in_words(progress.elapsed_s)
    words = {"idle": "idle: nothing is under way", "stopped": "stopped cleanly"}
    lines = [f"{words.get(summary.ended, summary.ended)} after {took}"]
    counts = [
        (progress.started, "started"),
        (progress.completed, "completed"),
        (progress.compensated, "compensated"),
        (progress.cancelled, "cancelled"),
        (progress.stuck, "stuck"),
        (progress.open, "open"),
    ]
    said = [f"{n:,} {word}" for n, word in counts if n or word in _ALWAYS_SAID]
    lines.append(f"  sagas    {', '.join(said)}")
    lines.append(f"  letters  {progress.dead:,} dead")
    if progress.read or progress.refused:
        lines.append(f"  feed     {counted(progress.read, 'line')}, {progress.refused:,} refused")
    return lines


def _code(summary: Summary, *, until_idle: bool) -> int:
    if summary.ended == "interrupted":
        return exits.INTERRUPTED
    if summary.violations or (until_idle and summary.progress.stuck):
        return exits.FAILED
    return exits.DONE
