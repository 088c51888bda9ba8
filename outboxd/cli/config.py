"""``outboxd config``: which settings are in force, and where each came from."""

from __future__ import annotations

import click

from outboxd.settings import Settings

from .groups import Group
from .options import with_output, with_settings
from .output import Column, Output


@click.group(cls=Group)
def config() -> None:
    """Which settings are in force, and from where.

    Flags, then OUTBOXD_* variables (and OUTBOXD_REDIS_FILE), then ./outboxd.toml or --config.
    """


@config.command()
@with_settings
@with_output
def show(settings: Settings, out: Output) -> None:
    """Every setting with its origin; passwords are not shown."""
    shown = settings.shown()
    if out.is_json:
        out.document({name: {"value": v, "origin": o} for name, (v, o) in shown.items()})
        return
    out.rows(
        [(name, *rest) for name, rest in shown.items()],
        [
            Column(title="SETTING", text=lambda row: row[0]),
            Column(title="VALUE", text=lambda row: row[1], least=20),
            Column(title="FROM", text=lambda row: row[2]),
        ],
    )


@config.command()
@with_settings
@with_output
def check(settings: Settings, out: Output) -> None:
    """Check the settings; exit 2 with file, line and key of what is wrong."""
    origins = sorted(set(settings.origins.values()))
    if out.is_json:
        out.document({"origins": origins})
    else:
        out.line(f"ok: {', '.join(origins) or 'all defaults'}")
