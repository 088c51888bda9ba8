"""``outboxd ui``: the dashboard, attached to a data directory whether outboxd runs there or not."""

from __future__ import annotations

import importlib.util
import os

import click

from outboxd.errors import ConfigError
from outboxd.monitor import Monitor
from outboxd.settings import Settings

from . import exits, streams
from .options import is_interactive, with_settings

STOP = 10
"""How the dashboard of ``run --ui`` says to the process that waits for it: outboxd shall stop."""

_HINT = "pip install 'textual>=8.2.8,<8.3'"


@click.command()
@click.option("--read-only", is_flag=True, help="Only look: no key changes anything.")
@click.option("--ascii", "is_plain", is_flag=True, help="Plain characters instead of glyphs.")
@click.option("--beside", "is_parent", is_flag=True, hidden=True)
@with_settings
def ui(settings: Settings, *, read_only: bool, is_plain: bool, is_parent: bool) -> None:
    """The dashboard: sagas, dead letters, flow, messages, log.

    \b
      outboxd ui
      outboxd ui --data /var/lib/outboxd --read-only

    It needs nothing but the data directory, and shows it whether outboxd runs or not. ? lists the
    keys, / filters, q leaves; outboxd goes on.
    """
    check()
    with Monitor(settings.data) as monitor:
        monitor.participants()
    left = show(settings, read_only=read_only, is_plain=is_plain, is_parent=is_parent)
    if left == "stop":
        raise exits.Stop(STOP)


def check() -> None:
    """Raises what would go wrong, before the screen is taken."""
    if importlib.util.find_spec("textual") is None:
        raise ConfigError("the dashboard needs textual, which is not installed", hint=_HINT)
    if not is_interactive() and "TEXTUAL_DRIVER" not in os.environ:
        raise ConfigError("the dashboard needs a terminal", hint="outboxd status works in a pipe")


def show(settings: Settings, *, read_only: bool, is_plain: bool, is_parent: bool) -> str:
    """Runs the dashboard; "view" or "stop": how it was left."""
    from outboxd.tui.app import Dashboard
    from outboxd.tui.keys import rebound

    is_plain = is_plain or not streams.has_glyphs()
    app = Dashboard(
        settings.data,
        read_only=read_only,
        is_plain=is_plain,
        is_parent=is_parent,
        table=rebound(settings.keys, settings.origins.get("keys", "[keys]")),
    )
    chosen = app.run()
    if app.return_code:
        raise exits.Stop(exits.FAILED)
    return chosen or "view"
