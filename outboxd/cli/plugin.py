"""``outboxd plugin``: what plugins handle, and whether they fit together; needs no broker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from outboxd import graph as graphs
from outboxd import plugins as plugins_module
from outboxd.errors import ConfigError
from outboxd.message import Event
from outboxd.participant import Participant
from outboxd.registry import Registry
from outboxd.rehearsal import Broken, Rehearsal, rehearse
from outboxd.settings import Settings

from . import exits, scaffold
from .groups import Group
from .hosting import chosen, registry_of
from .options import with_output, with_settings
from .output import Column, Output, counted


class Handled(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a participant does: ``kind``: command, event, saga, schedule, invariant."""

    participant: str
    kind: str
    name: str
    on: str
    module: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong; a ``warning`` does not keep outboxd from starting."""

    text: str
    hint: str | None
    is_warning: bool = False


@click.group(cls=Group)
def plugin() -> None:
    """Plugins: what they handle, and whether they fit together."""


@plugin.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=plugins_module.FOLDER,
    show_default=True,
    help="The folder in which its folder is made.",
)
@with_output
def new(out: Output, name: str, into: Path) -> None:
    """Write a plugin that works: messages, a saga, handlers, an invariant and a test.

    \b
      outboxd plugin new billing
      outboxd plugin check
      pytest plugins/billing
      outboxd run --until-idle

    Nothing is ever overwritten: where the folder is there already, exit 4.
    """
    files = scaffold.create(name, into)
    if out.is_json:
        out.document({"name": name, "files": [str(path) for path in files]})
        return
    for path in files:
        out.line(str(path))
    where = "" if into == Path(plugins_module.FOLDER) else f" {into}"
    payload = '{"id": "1", "amount": 5}'
    for step in (
        f"pytest {into / name}",
        f"outboxd plugin check{where}",
        f"outboxd run{where} &",
        f"outboxd send Start{scaffold.title_of(name)} '{payload}' --wait",
    ):
        out.say(f"next: {step}")


@plugin.command("list")
@click.argument("names", metavar="[PLUGIN]...", nargs=-1)
@with_settings
@with_output
def list_(settings: Settings, out: Output, names: tuple[str, ...]) -> None:
    """Handlers, sagas and invariants of the plugins."""
    registry = registry_of(chosen(names, settings))
    handled = _handled(registry)
    if out.is_json:
        out.document(handled)
        return
    out.rows(
        handled,
        [
            Column(title="PARTICIPANT", text=lambda h: h.participant),
            Column(title="KIND", text=lambda h: h.kind),
            Column(title="ON", text=lambda h: h.on, least=12),
            Column(title="NAME", text=lambda h: h.name, least=20),
            Column(title="MODULE", text=lambda h: h.module, drops=1),
        ],
    )


@plugin.command()
@click.argument("names", metavar="[PLUGIN]...", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "json"]),
    default="text",
    show_default=True,
)
@with_settings
@with_output
def graph(settings: Settings, out: Output, names: tuple[str, ...], form: str) -> None:
    """Who takes which message, and which messages its code names.

    \b
      outboxd plugin graph
      outboxd plugin graph --format mermaid > workflow.mmd

    What is taken is certain. What is sent is read off the code: the message classes that it names,
    itself or by functions of the same module. Warnings, which change no exit code, are of events
    that nobody handles, commands that nobody owns, and cycles.
    """
    found = graphs.graph_of(registry_of(chosen(names, settings)))
    if out.is_json or form == "json":
        out.document(found)
        return
    for line in graphs.as_mermaid(found) if form == "mermaid" else graphs.as_text(found):
        out.line(line)
    for warning in found.warnings:
        out.say(f"{out.painted('warning:', 'yellow', bold=True)} {warning}")


@plugin.command()
@click.argument("names", metavar="[PLUGIN]...", nargs=-1)
@with_settings
@with_output
def check(settings: Settings, out: Output, names: tuple[str, ...]) -> None:
    """Load every plugin and check what a start would check; all failures are listed.

    With a data directory it is a rehearsal as well: each saga under way there is replayed against
    this code, without any effect, beside a daemon or not. Exit code 1 if the code would break one.

    \b
      outboxd plugin check
      outboxd plugin check plugins.payments shop.py
      outboxd plugin check --data /var/lib/outboxd
    """
    found = plugins_module.find(chosen(names, settings))
    problems = [_problem(error) for error in found.failures]
    problems += _faults(found.participants)
    failed = [problem for problem in problems if not problem.is_warning]
    rehearsal = None if failed else _rehearsed(settings, found.participants, problems)
    if out.is_json:
        names_ = [participant.name for participant in found.participants]
        out.document({"participants": names_, "problems": problems, "rehearsal": rehearsal})
    else:
        for problem in problems:
            _print(out, problem)
        if not failed:
            hosted = ", ".join(participant.name for participant in found.participants)
            number = len(found.participants)
            verb = "fits" if number == 1 else "fit together"
            out.line(f"{counted(number, 'participant')} {verb}: {hosted}")
        if rehearsal is not None:
            _print_rehearsal(out, rehearsal)
    if failed:
        raise exits.Stop(exits.USAGE)
    if rehearsal is not None and rehearsal.broken:
        raise exits.Stop(exits.FAILED)


def _rehearsed(
    settings: Settings, participants: list[Participant], problems: list[Problem]
) -> Rehearsal | None:
    """The replay of what is under way; None where nobody named a data directory and none is here.

    Participants with sagas but without code are problems, though a start would not refuse them.
    """
    if "data" not in settings.origins and not settings.data.is_dir():
        return None
    rehearsal = rehearse(settings.data, Registry(participants))
    for name, count in rehearsal.absent.items():
        text = f"{name} has {counted(count, 'saga')} under way, and is in none of these plugins"
        problems.append(Problem(text=text, hint=None, is_warning=True))
    return rehearsal


def _print_rehearsal(out: Output, rehearsal: Rehearsal) -> None:
    said = f"{counted(rehearsal.sagas, 'saga')} under way replayed"
    if not rehearsal.broken:
        out.line(f"{said}: this code fits each journal")
        return
    out.line(f"{said}: this code would break {len(rehearsal.broken):,}")
    columns = [
        Column[Broken](title="SAGA", text=lambda b: b.saga, least=19),
        Column[Broken](title="STEP", text=lambda b: str(b.step), align=">"),
        Column[Broken](title="THE JOURNAL HAS", text=lambda b: b.journal, least=16),
        Column[Broken](title="THE CODE ASKS FOR", text=lambda b: b.code, least=16),
    ]
    out.rows(rehearsal.broken, columns)


def _print(out: Output, problem: Problem) -> None:
    word, colour = ("warning:", "yellow") if problem.is_warning else ("error:", "red")
    out.line(f"{out.painted(word, colour, bold=True)} {problem.text}")
    if problem.hint:
        out.line(f"{out.painted('hint:', 'cyan', bold=True)} {problem.hint}")


def _faults(participants: list[Participant]) -> list[Problem]:
    """What is wrong with each participant, and then with all of them together."""
    found: list[Problem] = []
    for participant in participants:
        found += _raised(lambda one=participant: Registry([one]))
        found += _raised(lambda one=participant: plugins_module.check_schema(one))
    if found:
        return found
    found += _raised(lambda: Registry(participants))
    if not found:
        unowned = Registry(participants).unowned()
        found += [Problem(text=text, hint=None, is_warning=True) for text in unowned]
    return found


def _raised(check: Callable[..., Any]) -> list[Problem]:
    try:
        check()
    except ConfigError as error:
        return [_problem(error)]
    return []


def _problem(error: ConfigError) -> Problem:
    return Problem(text=error.message, hint=error.hint)


def _handled(registry: Registry) -> list[Handled]:
    found: list[Handled] = []
    for name, participant in registry.participants.items():
        sagas = [k for (owner, _), k in registry.sagas.items() if owner == name]
        handlers = [h for (owner, _), h in registry.handlers.items() if owner == name]
        rows = [("saga", kind.name, kind.type_name) for kind in sagas]
        for handler in handlers:
            kind_ = "event" if issubclass(handler.message, Event) else "command"
            rows.append((kind_, handler.name, handler.type_name))
        plans = registry.schedules.get(name, {}).values()
        rows += [("schedule", plan.name, plan.schedule.text) for plan in plans]
        rows += [("invariant", spec.text, spec.when) for spec in participant.invariants]
        found += [
            Handled(participant=name, kind=kind, name=what, on=on, module=participant.module)
            for kind, what, on in rows
        ]
    return found
