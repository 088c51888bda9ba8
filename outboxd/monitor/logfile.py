"""The end of the daemon's log, in lines that a list can show."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

FILE = Path("log") / "outboxd.log"

TAIL_BYTES = 200_000

_LINE = re.compile(r"(?P<at>[\d-]+ [\d:]+)[,.]\d+ level=(?P<level>\S+) logger=\S+ (?P<text>.*)")


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon logged; ``times``: how often it said so in a row; ``more``: a traceback."""

    n: int
    at: str
    level: str
    text: str
    times: int = 1
    more: str = ""


def tail(data: Path, words: Iterable[str], limit: int) -> list[LogLine]:
    """The latest lines that have all of these words, the newest first."""
    asked = [word.lower() for word in words]
    found: list[LogLine] = []
    for line in _lines(data / FILE):
        if not all(word in f"{line.level} {line.text}".lower() for word in asked):
            continue
        if found and (found[-1].text, found[-1].level) == (line.text, line.level):
            found[-1] = msgspec.structs.replace(line, n=found[-1].n, times=found[-1].times + 1)
        else:
            found.append(line)
    return found[-limit:][::-1]


def _lines(path: Path) -> list[LogLine]:
    found: list[LogLine] = []
    for number, raw in _raw(path):
        said = _LINE.match(raw)
        if said is not None:
            found.append(LogLine(n=number, at=said["at"], level=said["level"], text=said["text"]))
        elif found:
            found[-1] = msgspec.structs.replace(found[-1], more=f"{found[-1].more}{raw}\n")
    return found


def _raw(path: Path) -> Iterable[tuple[int, str]]:
    """(offset, line): an offset names a line as long as the file is not rotated."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, 2) - TAIL_BYTES)
            file.seek(start)
            if start:
                start += len(file.readline())
            for raw in file:
                yield start, raw.decode(errors="replace").rstrip("\n")
                start += len(raw)
    except OSError:
        return
