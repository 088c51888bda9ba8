"""``outboxd web``: the dashboard in a browser, on this machine only."""

from __future__ import annotations

import importlib.util
import shlex
import sys

import click

from outboxd.errors import ConfigError
from outboxd.monitor import Monitor
from outboxd.settings import Settings

from .options import with_settings


@click.command()
@click.option("--port", default=8765, show_default=True, help="Where to listen, on 127.0.0.1.")
@click.option("--allow-operate", is_flag=True, help="Keys that change something work as well.")
@with_settings
def web(settings: Settings, port: int, *, allow_operate: bool) -> None:
    """The dashboard in a browser: read-only unless allowed, and only on this machine.

    \b
      outboxd web
      ssh -L 8765:127.0.0.1:8765 edge-7     to see another machine's

    Whoever can log in to this machine can open it; there is no password.
    """
    if importlib.util.find_spec("textual_serve") is None:
        raise ConfigError(
            "the dashboard for browsers is not installed", hint="pip install 'outboxd[web]'"
        )
    with Monitor(settings.data) as monitor:
        monitor.participants()
    from outboxd.tui.web import serve

    command = [sys.executable, "-m", "outboxd", "ui", "--data", str(settings.data.resolve())]
    if not allow_operate:
        command.append("--read-only")
    mode = "keys that change something work" if allow_operate else "read-only"
    serve(shlex.join(command), port, lambda url: click.echo(f"{url}  ({mode}; Ctrl-C ends it)"))
