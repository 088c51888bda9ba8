"""Which plugins a command means, and what they make together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outboxd import plugins as plugins_module
from outboxd.registry import Registry
from outboxd.settings import Settings

from . import exits


def chosen(named: Sequence[str], settings: Settings, *, is_needed: bool = True) -> list[str]:
    """The named plugins, or those of the settings, or the folder ``plugins`` here if there is one.

    Raises a usage error if there are none and they are needed.
    """
    names = list(named) or list(settings.plugins)
    if not names and Path(plugins_module.FOLDER).is_dir():
        names = [plugins_module.FOLDER]
    if not names and is_needed:
        raise exits.Usage(
            "which plugins?",
            "name modules, .py files or folders; without any, ./plugins is taken, and is not here",
        )
    return names


def registry_of(names: Sequence[str]) -> Registry:
    """What the plugins handle together; raises ConfigError for what is wrong with them."""
    return Registry(plugins_module.load(names))
