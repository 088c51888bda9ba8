"""The arguments and streams of this process, whatever locale and whatever caller it has."""

from __future__ import annotations

import codecs
import os
import sys
from io import TextIOWrapper

from outboxd.words import PLAIN

PLAINLY = "outboxd.plainly"
"""How a stream deals with what its encoding has not."""


def arguments() -> list[str]:
    """What was typed, as text: a locale that is not UTF-8 leaves half-read bytes in it."""
    return [os.fsencode(argument).decode(errors="replace") for argument in sys.argv[1:]]


def prepare() -> None:
    """A closed stream takes anything, and what a stream has no sign for gets a plain one."""
    codecs.register_error(PLAINLY, _plainly)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - to the end
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=PLAINLY)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - to the end


def _plainly(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    wanted = error.object[error.start : error.end].translate(PLAIN)
    return wanted.encode("ascii", "replace").decode(), error.end


def has_glyphs() -> bool:
    """Whether the terminal's encoding has the signs of a state, and lines to draw with."""
    try:
        "✓▌━".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
