"""Exit codes, and the two lines with which an error ends a command: what it is, and what to do."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

import click

from outboxd.errors import ConfigError, NotFound, OutboxdError, Refused, Unavailable

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
REFUSED = 4
UNREACHABLE = 5
INTERRUPTED = 130

_CODES: tuple[tuple[type[OutboxdError], int], ...] = (
    (ConfigError, USAGE),
    (NotFound, NOT_FOUND),
    (Refused, REFUSED),
    (Unavailable, UNREACHABLE),
)

_log = logging.getLogger("outboxd.cli")


class Usage(click.UsageError):
    """A command line that is wrong, with a hint of our own."""

    def __init__(self, message: str, hint: str, ctx: click.Context | None = None) -> None:
        super().__init__(message, ctx)
        self.hint = hint


class Stop(Exception):
    """Ends the command with a code; whatever there is to say was said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def code_of(error: OutboxdError) -> int:
    """The exit code of one of our errors."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def guarded(command: Callable[[], object]) -> int:
    """Runs ``command``; returns its exit code, and says on stderr what went wrong."""
    try:
        result = command()
    except Stop as stop:
        return stop.code
    except OutboxdError as error:
        _log.debug("command_failed", exc_info=error)
        say_error(error.message, error.hint)
        return code_of(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        say_error(error.format_message(), _click_hint(error))
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except SystemExit as end:  # the completion of shells ends so
        return end.code if isinstance(end.code, int) else DONE
    except Exception:
        _log.exception("bug")
        say_error(f"this is a bug in outboxd: {_bug()}", f"please report it; {_where_logged()}")
        return FAILED
    return result if isinstance(result, int) else DONE


def say_error(message: str, hint: str | None) -> None:
    """``error: …`` and ``hint: …`` on stderr."""
    colour = wants_colour()
    for word, fg, text in (("error:", "red", message), ("hint:", "cyan", hint)):
        if text:
            click.echo(f"{click.style(word, fg=fg, bold=True)} {text}", err=True, color=colour)


def wants_colour() -> bool | None:
    """For ``click.echo``: no colours where none are wanted, else as the stream can."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _bug() -> str:
    error = sys.exc_info()[1]
    return f"{type(error).__name__}: {error}"


def _where_logged() -> str:
    files = [h for h in logging.getLogger("outboxd").handlers if isinstance(h, logging.FileHandler)]
    return f"the traceback is in {files[0].baseFilename}" if files else "the traceback is above"


def _click_hint(error: click.ClickException) -> str | None:
    if isinstance(error, Usage):
        return error.hint
    context = getattr(error, "ctx", None)
    return None if context is None else f"see {context.command_path} --help"


def reader_left() -> Stop:
    """``outboxd … | head``: nobody wants the rest; the interpreter must not complain either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return Stop(DONE)
