"""``outboxd doctor``: what this machine is like for outboxd, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

from outboxd import settings as settings_module

from . import exits
from .hosting import chosen
from .options import with_output
from .output import Output, wrapped

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_LOOKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@click.command()
@click.argument("plugins", metavar="[PLUGIN]...", nargs=-1)
@click.option("--data", type=_FOLDER, help="The data directory (default: outboxd-data).")
@click.option("--redis", metavar="URL", help="The server to ask, instead of the embedded one.")
@click.option("--config", type=_FILE, help="A settings file instead of ./outboxd.toml.")
@with_output
def doctor(
    out: Output, plugins: tuple[str, ...], data: Path | None, redis: str | None, config: Path | None
) -> None:
    """Look at Python, SQLite, disk, clock, broker and plugins.

    Each line is ok, a warning or a failure with its remedy. Nothing is changed; it may run beside
    the daemon, and before the first start.

    \b
      outboxd doctor
      outboxd doctor --data /var/lib/outboxd --redis redis://broker:6379 plugins
      outboxd doctor --json | jq '.[] | select(.state != "ok")'

    Exit 1 if something fails; warnings alone are no failure.
    """
    from outboxd import doctor as examiner

    settings = settings_module.load({"data": data, "redis": redis}, config=config)
    findings = examiner.examine(settings, chosen(plugins, settings, is_needed=False))
    if out.is_json:
        out.document(findings)
    for finding in () if out.is_json else findings:
        glyph, colour = _LOOKS[finding.state]
        if not out.is_tty:
            parts = (finding.check, finding.state, finding.text, finding.remedy or "")
            out.line("\t".join(part.replace("\n", " ").replace("\t", " ") for part in parts))
            continue
        head = out.painted(f"{glyph} {finding.state:<4}", colour)
        first, *rest = wrapped(f"{finding.check:<12}{finding.text}", out.width - 7, "").splitlines()
        out.line("\n".join([f"{head} {first}", *(f"       {line}" for line in rest)]))
        if finding.remedy is not None:
            out.line(wrapped(finding.remedy, out.width, " " * 19))
    if any(finding.state == "fail" for finding in findings):
        raise exits.Stop(exits.FAILED)
