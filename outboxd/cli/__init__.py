"""The command line: one file per noun, imported when it is named.

So ``outboxd dead list`` loads neither the dashboard nor the broker's client.
"""

from __future__ import annotations

from typing import NoReturn

import click

from . import streams
from .groups import LazyGroup

_VERSION = "%(version)s"


@click.group(
    "outboxd",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    homes={
        "run": "run:run",
        "ui": "ui:ui",
        "web": "web:web",
        "send": "send:send",
        "status": "status:status",
        "why": "why:why",
        "schedules": "schedules:schedules",
        "saga": "saga:saga",
        "dead": "dead:dead",
        "message": "message:message",
        "op": "op:op",
        "audit": "audit:audit",
        "pause": "pause:pause",
        "resume": "pause:resume",
        "trust": "trust:trust",
        "subscriber": "subscriber:subscriber",
        "plugin": "plugin:plugin",
        "prove": "prove:prove",
        "config": "config:config",
        "bench": "bench:bench",
        "db": "db:db",
        "doctor": "doctor:doctor",
        "completion": "completion:completion",
    },
)
@click.version_option(package_name="outboxd", message=_VERSION)
def cli() -> None:
    """Business workflows across boundaries, eventually correct: on SQLite and Redis Streams.

    \b
      outboxd run plugins                     host the plugins of a folder
      outboxd send PlaceOrder @order.json     start a workflow
      outboxd status                          one screen of health
      outboxd ui                              the dashboard
      outboxd saga list --state stuck         what needs a person
      outboxd dead show d-7                   why a message could not be handled

    Settings: flags, then OUTBOXD_* variables, then ./outboxd.toml.
    Exit codes: 0 done, 1 failed or unhealthy, 2 usage or configuration, 3 not found, 4 refused or
    needs --yes, 5 SQLite or Redis unreachable, 130 interrupted.
    """


def main() -> NoReturn:
    """The entry point of the console script."""
    streams.prepare()
    cli.main(streams.arguments())
