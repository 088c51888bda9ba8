"""The arguments and streams of this process, whatever locale and whatever caller it has."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def arguments() -> list[str]:
    """What was typed, as text: a locale that is not UTF-8 leaves half-read bytes in it."""
    return [os.fsencode(argument).decode(errors="replace") for argument in sys.argv[1:]]


def prepare() -> None:
    """A closed stream takes anything, and a sign that a stream does not know becomes a ?."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - to the end
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - to the end
