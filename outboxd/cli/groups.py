"""Groups of commands: imported when named, with the nearest name for a mistyped one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from outboxd.words import nearest

from . import exits


class Group(click.Group):
    """A group that answers an unknown command with the nearest known one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as err:
            near = nearest(args[0], self.list_commands(ctx))
            hint = f"did you mean {near}?" if near else f"see {ctx.command_path} --help"
            raise exits.Usage(f"there is no command {args[0]!r}", hint, ctx) from err


class LazyGroup(Group):
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
        command: click.Command = getattr(import_module(f".{module}", __package__), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as err:  # before click takes it for a failure
            raise exits.reader_left() from err

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
