"""``outboxd why``: what a saga or a message waits for, and what would move it."""

from __future__ import annotations

import click

from outboxd.monitor import Monitor, Why
from outboxd.settings import Settings

from .options import with_data, with_output, with_settings
from .output import Output, wrapped

_DOES = {
    "dead replay": "handles it again",
    "dead discard": "gives it up",
    "saga retry": "makes the step again, after a fix",
    "saga cancel": "undoes what it did",
    "saga skip": "answers the step by hand",
    "saga resolve": "ends it as you say",
    "saga kill": "ends it as it stands",
    "audit": "shows which",
    "trust": "believes the restored store",
    "resume": "takes messages again",
    "run": "starts the daemon, with your plugins",
}


@click.command()
@click.argument("name", metavar="ID")
@with_settings
@with_output
def why(settings: Settings, out: Output, name: str) -> None:
    """What a saga or message waits for, and what moves it.

    \b
      outboxd why 10431                        a saga, by its key
      outboxd why orders/fulfil/10431          or by its id
      outboxd why d-7                          a dead letter
      outboxd why 'orders/fulfil/10431#2'      the message of its second step
      outboxd why billing.sweep                a schedule
    """
    with Monitor(settings.data) as monitor:
        found = monitor.why(name)
    if out.is_json:
        out.document(found)
    else:
        page(settings, out, found)


def page(settings: Settings, out: Output, found: Why) -> None:
    """The answer for a person."""
    out.line(f"{out.painted(found.id, bold=True)}  {out.state(found.state)}")
    if found.origin is not None:
        out.line(wrapped(f"started by {found.origin}", out.width))
    for sentence in found.waits_for or ("for nothing",):
        verb = "waits " if sentence.startswith("for ") else ""
        out.line(wrapped(f"{verb}{sentence}", out.width))
    for sentence in found.next:
        out.line(wrapped(f"next: {sentence}", out.width))
    for command in found.moves:
        out.line(_move(out, with_data(command, settings)))


def _move(out: Output, command: str) -> str:
    """A command to type, and what it does where that fits."""
    words = command.split()
    does = _DOES.get(" ".join(words[1:3])) or _DOES.get(words[1])
    line = f"  move it: {command}"
    if does is None or not out.is_tty or len(line) + len(does) + 4 > out.width:
        return line
    return f"{line}  # {does}"
