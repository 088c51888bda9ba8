"""The command line: one file per noun, imported when it is named.

So ``outboxd dead list`` loads neither the dashboard nor the broker's client.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from . import exits

_VERSION = "%(version)s"


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named.

    ``homes``: command to "module:attribute" inside this package, in the order of the help.
    """

    def __init__(self, *args: Any, homes: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.homes = homes or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.homes, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = self.homes.get(cmd_name)
        if home is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = home.partition(":")
        command: click.Command = getattr(import_module(f".{module}", __name__), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as err:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"did you mean {close[0]}?" if close else f"see {ctx.command_path} --help"
            raise exits.Usage(f"there is no command {args[0]!r}", hint, ctx) from err

    def main(  # type: ignore[override]  # every way in ends in our exit codes, a test's too
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        extra.pop("standalone_mode", None)
        sys.exit(
            exits.guarded(
                lambda: super(LazyGroup, self).main(
                    args, prog_name or "outboxd", standalone_mode=False, **extra
                )
            )
        )


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    homes={
        "run": "run:run",
        "send": "send:send",
        "status": "status:status",
        "why": "why:why",
        "saga": "saga:saga",
        "dead": "dead:dead",
        "op": "op:op",
        "audit": "audit:audit",
        "plugin": "plugin:plugin",
        "config": "config:config",
        "bench": "bench:bench",
    },
)
@click.version_option(package_name="outboxd", message=_VERSION)
def cli() -> None:
    """Business workflows across boundaries, eventually correct: on SQLite and Redis Streams.

    \b
      outboxd run plugins                     host the plugins of a folder
      outboxd send PlaceOrder @order.json     start a workflow
      outboxd status                          one screen of health
      outboxd saga list --state stuck         what needs a person
      outboxd dead show d-7                   why a message could not be handled

    Settings: flags, then OUTBOXD_* variables, then ./outboxd.toml.
    Exit codes: 0 done, 1 failed or unhealthy, 2 usage or configuration, 3 not found, 4 refused or
    needs --yes, 5 SQLite or Redis unreachable, 130 interrupted.
    """


def main() -> NoReturn:
    """The entry point of the console script."""
    cli.main()
