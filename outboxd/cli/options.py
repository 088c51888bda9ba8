"""Options that several commands share, and the questions that a command may ask."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from outboxd import settings as settings_module
from outboxd.errors import Refused
from outboxd.settings import Settings

from .output import Output

F = TypeVar("F", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


def with_settings(command: F) -> F:
    """Adds --data and --config; the command gets ``settings``."""

    @click.option("--data", type=_FOLDER, help="The data directory (default: outboxd-data).")
    @click.option("--config", type=_FILE, help="A settings file instead of ./outboxd.toml.")
    @functools.wraps(command)
    def wrapped(*args: Any, data: Path | None, config: Path | None, **kwargs: Any) -> Any:
        return command(
            *args, settings=settings_module.load({"data": data}, config=config), **kwargs
        )

    return wrapped  # type: ignore[return-value]  # the options are the command line's, not the caller's


def with_output(command: F) -> F:
    """Adds --json and --no-color; the command gets ``out``."""

    @click.option("--json", "is_json", is_flag=True, help="One JSON document on stdout.")
    @click.option("--no-color", is_flag=True, help="No colours; so does NO_COLOR=1.")
    @functools.wraps(command)
    def wrapped(*args: Any, is_json: bool, no_color: bool, **kwargs: Any) -> Any:
        return command(*args, out=Output.here(is_json=is_json, no_color=no_color), **kwargs)

    return wrapped  # type: ignore[return-value]


def filter_option(fields: str) -> Callable[[F], F]:
    """Adds --filter; ``fields`` names what may stand before a colon."""
    text = f"Words, or field:value with {fields}. ! negates, a comma means or."
    return click.option("--filter", "filter_", metavar="TEXT", default="", help=text)


reason_option = click.option(
    "--reason", help="Why, for the audit trail; asked for if it is not given."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def is_interactive() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str, *, yes: bool) -> None:
    """Asks, unless told not to. Raises Refused where there is nobody to ask."""
    if yes:
        return
    if not is_interactive():
        raise Refused(f"{question} Nobody is here to say yes.", hint="add --yes to do it unasked")
    click.confirm(question, default=False, abort=True, err=True)


def reasoned(reason: str | None) -> str:
    """The reason for the audit trail, asked for if it was not given. Raises Refused."""
    if reason and reason.strip():
        return reason.strip()
    if not is_interactive():
        raise Refused("this needs a reason, for the audit trail", hint="add --reason 'why'")
    answer: str = click.prompt("reason (it stays in the audit trail)", err=True)
    return answer.strip()


def with_data(command: str, settings: Settings) -> str:
    """A command to type next, on the same data directory."""
    is_plain = settings.origins.get("data") != "--data"
    return command if is_plain else f"{command} --data {settings.data}"
