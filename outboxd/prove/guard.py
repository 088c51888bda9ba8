"""Watches that code inside a transaction does not touch the world outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_REFUSED = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "smtplib.connect",
    "urllib.Request",
    "http.client.connect",
)

_FILES = ("os.remove", "os.rename", "os.mkdir")


class OutsideTouched(BaseException):
    """Code inside a transaction did something that no rollback takes back."""


_guarded = False
_files_too = False
_is_installed = False


def _hook(event: str, args: tuple[object, ...]) -> None:
    if not _guarded:
        return
    if event in _REFUSED or (_files_too and event in _FILES):
        raise OutsideTouched(f"{event}{_brief(args)}")
    if event == "open" and _files_too and _writes(args):
        raise OutsideTouched(f"opens {args[0]!r} for writing")


def _writes(args: tuple[object, ...]) -> bool:
    mode, flags = args[1], args[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _brief(args: tuple[object, ...]) -> str:
    text = ", ".join(repr(arg) for arg in args)
    return f"({text[:80]})"


@contextmanager
def guarded(*, files_too: bool = True) -> Iterator[None]:
    """Within it, sockets, processes and (``files_too``) files that change raise OutsideTouched.

    What is imported there for the first time leaves no compiled file behind, which would be one.
    Uses the interpreter's audit events (PEP 578), which cannot be taken back; outside of this
    block the hook does nothing.
    """
    global _guarded, _files_too, _is_installed
    if not _is_installed:
        sys.addaudithook(_hook)
        _is_installed = True
    before = _guarded, _files_too, sys.dont_write_bytecode
    _guarded, _files_too, sys.dont_write_bytecode = True, files_too, True
    try:
        yield
    finally:
        _guarded, _files_too, sys.dont_write_bytecode = before
