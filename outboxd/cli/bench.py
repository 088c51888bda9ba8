"""``outboxd bench``: how fast it is here, and how far from a bare loop."""

from __future__ import annotations

from pathlib import Path

import click

from .options import with_output
from .output import Output


@click.command()
@click.option("--sagas", default=5000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where to work: the disk matters (default: here).",
)
@with_output
def bench(out: Output, sagas: int, data: Path | None) -> None:
    """Measure how fast it is here.

    Order sagas over three remote participants, all durable, and a bare loop of the same inserts
    beside them.
    """
    from outboxd import bench as benchmark

    figures = benchmark.run(sagas, data, lambda phase: out.say(f"{phase} …"))
    if out.is_json:
        out.document(figures)
        return
    for name, value in figures.items():
        out.line(f"{name.replace('_', ' '):<20} {value}" if out.is_tty else f"{name}\t{value}")
