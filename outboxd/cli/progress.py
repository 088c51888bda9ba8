"""The one line that shows how a run goes, and the log lines that must not tear it."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import deque
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from outboxd.clock import in_words
from outboxd.errors import ConfigError

from . import exits
from .output import can_redraw, counted, shortened, wrapped

if TYPE_CHECKING:
    from outboxd.runtime import Progress

PER_S = 5
"""Redraws a second at most: more is not read, and costs the loop."""

RATE_S = 3
"""The rate is that of so many last seconds."""

SHOWN = 5
QUIET_S = 10.0
"""Of one kind of warning so many are shown, until there was none of it for so long."""

LOG_BYTES = 5_000_000
LOG_FILES = 3

_CLEAR = "\r\x1b[K"


class Line:
    """The line; it knows whether there is a terminal to draw it on.

    ``stream``: where it is drawn, stderr unless told otherwise.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.is_shown = can_redraw(self._stream)
        self._text = ""
        self._drawn_at = float("-inf")
        self._samples: deque[tuple[float, int]] = deque(maxlen=PER_S * RATE_S)

    def show(self, progress: Progress) -> None:
        """Draws, unless it was drawn just now."""
        now = time.monotonic()
        if not self.is_shown or now - self._drawn_at < 1 / PER_S:
            return
        self._drawn_at = now
        # One column stays free: some terminals wrap as soon as the last one is written.
        text = in_one_line(progress, self._rate(progress))
        self._text = shortened(text, shutil.get_terminal_size().columns - 1)
        self._write(self._text)

    def _rate(self, progress: Progress) -> float:
        """Sagas that ended, per second, over the last few seconds."""
        ended = progress.completed + progress.compensated + progress.cancelled
        self._samples.append((progress.elapsed_s, ended))
        before_s, before = self._samples[0]
        span_s = progress.elapsed_s - before_s
        return (ended - before) / span_s if span_s > 0 else 0.0

    def end(self) -> None:
        """Takes the line away."""
        if self._text:
            self._write("")
            self._text = ""

    def around(self, text: str) -> None:
        """A line of talk above the progress line."""
        if self.is_shown and self._text:
            self._stream.write(_CLEAR)
        click.echo(text, file=self._stream, color=exits.wants_colour())
        if self.is_shown and self._text:
            self._write(self._text)

    def say(self, sentence: str) -> None:
        """A sentence of talk, over several lines where the terminal is narrow."""
        if self.is_shown:
            head = sentence.partition(" ")[0]  # it alone may be coloured, which takes no room
            plain = wrapped(click.unstyle(sentence), shutil.get_terminal_size().columns, first="")
            sentence = head + plain[len(click.unstyle(head)) :]
        self.around(sentence)

    def _write(self, text: str) -> None:
        self._stream.write(_CLEAR + text)
        self._stream.flush()


class Talk(logging.Handler):
    """Log records on stderr, above the progress line.

    ``is_whole``: all of them, as they are. Otherwise a flood of one kind of warning is cut short on
    a terminal: there the line counts, and the log has each of them.
    """

    def __init__(self, line: Line, log: Path, *, is_whole: bool) -> None:
        super().__init__()
        self._line = line
        self._log = log
        self._is_whole = is_whole
        self._seen: dict[str, tuple[int, float]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._is_whole or not self._line.is_shown:
                self._line.around(self.format(record))
                return
            kind = record.getMessage().partition(" ")[0]
            number = self._number(kind) if record.levelno == logging.WARNING else 0
            if number <= SHOWN:
                self._line.say(self.format(record))
            elif number == SHOWN + 1:
                self._line.say(f"more of {kind} go to {self._log} only")
        except Exception:
            self.handleError(record)

    def _number(self, kind: str) -> int:
        """Which one of its kind this is, since there was none for a while."""
        now = time.monotonic()
        number, at = self._seen.get(kind, (0, now))
        number = 1 if now - at > QUIET_S else number + 1
        self._seen[kind] = (number, now)
        return number


class _Short(logging.Formatter):
    """``warning: broker unreachable``; tracebacks go to the file, and here with ``verbose``."""

    def __init__(self, *, has_tracebacks: bool) -> None:
        super().__init__()
        self._has_tracebacks = has_tracebacks

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record) if self._has_tracebacks else record.getMessage()
        if record.levelno >= logging.ERROR:
            return f"{click.style('error:', fg='red')} {text}"
        if record.levelno >= logging.WARNING:
            return f"{click.style('warning:', fg='yellow')} {text}"
        return text


class _LogFile(RotatingFileHandler):
    """A record that does not fit on a full disk is dropped: no traceback in the user's terminal."""

    def handleError(self, record: logging.LogRecord) -> None:
        return


def set_up_logging(data: Path, level: str, line: Line, *, verbose: bool) -> None:
    """Warnings to stderr (all with ``verbose``); what ``level`` lets pass to log/outboxd.log."""
    logger = logging.getLogger("outboxd")
    logger.setLevel(logging.DEBUG if verbose else level.upper())
    logger.propagate = False
    talk = Talk(line, data / "log" / "outboxd.log", is_whole=verbose)
    talk.setLevel(logging.DEBUG if verbose else logging.WARNING)
    talk.setFormatter(_Short(has_tracebacks=verbose))
    talk.addFilter(lambda record: verbose or record.name != "outboxd.cli")  # it speaks for itself
    logger.handlers = [talk, _file_handler(data)]


def _file_handler(data: Path) -> logging.Handler:
    folder = data / "log"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        handler = _LogFile(
            folder / "outboxd.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
        )
    except OSError as err:
        raise ConfigError(
            f"cannot use the data directory {data}: {err.strerror}",
            hint="name a writable one with --data DIR",
        ) from err
    handler.setFormatter(
        logging.Formatter("%(asctime)s level=%(levelname)s logger=%(name)s %(message)s")
    )
    return handler


def in_one_line(progress: Progress, rate: float = 0.0) -> str:
    """``1,204 started  1,190 done  9 undone  5 open  1,980/s  6s``: within 80 columns."""
    parts = ["broker down"] if progress.broker != "up" else []
    if progress.suspects:
        parts.append(f"examining {counted(progress.suspects, 'suspect')}")
    parts += [
        f"{progress.started:,} started",
        f"{progress.completed:,} done",
        f"{progress.compensated + progress.cancelled:,} undone",
        f"{progress.open:,} open",
    ]
    for number, word in (
        (progress.stuck, "stuck"),
        (progress.dead, "dead"),
        (progress.refused, "refused"),
    ):
        if number:
            parts.append(f"{number:,} {word}")
    if rate >= 1:
        parts.append(f"{rate:,.0f}/s")
    is_short = progress.elapsed_s < 10
    parts.append(f"{progress.elapsed_s:.0f}s" if is_short else in_words(progress.elapsed_s))
    return "  ".join(parts)
