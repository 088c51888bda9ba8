"""The data directory: ours alone while the process lives; the node's id, its state for others."""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigError, Refused, Unavailable
from .message import encode

STATUS = "daemon.json"

LOCK_TRIES = 10
LOCK_PAUSE_S = 0.02


@contextmanager
def room(data: Path) -> Iterator[None]:
    """A full disk is no bug of ours. Raises Unavailable for it."""
    try:
        yield
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable(
            f"no space left on the disk of {data}: {err.strerror}", hint="free disk space"
        ) from err


@contextmanager
def claimed(data: Path) -> Iterator[None]:
    """Makes the directory and locks it; the kernel frees the lock whatever becomes of the process.

    Raises ConfigError if it cannot be used, Refused if another process has it.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise ConfigError(
            f"cannot use the data directory {data}: {err.strerror}",
            hint="name a writable one with --data DIR",
        ) from err
    try:
        with room(data):
            _lock(lock, data)
        yield
        (data / STATUS).unlink(missing_ok=True)
    finally:
        os.close(lock)


def is_claimed(data: Path) -> bool:
    """Whether a process has the directory, whatever its last words were.

    Looks at the lock itself: a pid means nothing in another container.
    """
    try:
        lock = os.open(data / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    """Tries for a moment: whoever asks ``is_claimed`` holds the lock for microseconds."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_S)
        else:
            return True
    return False


def _lock(lock: int, data: Path) -> None:
    if not _try_lock(lock):
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        raise Refused(
            f"another outboxd (pid {holder}) runs on {data}",
            hint="stop it first, or name another directory with --data DIR",
        )
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())


def node_id(data: Path) -> str:
    """This node's id, made once: a restart reads its own pending entries under the same name."""
    path = data / "node"
    if not path.exists():
        path.write_text(f"node-{uuid.uuid4().hex[:8]}")
    return path.read_text().strip()


def write_status(data: Path, status: dict[str, object]) -> None:
    """Replaces the state that other processes read; not synced, it is of no use after a crash."""
    fresh = data / f"{STATUS}.new"
    fresh.write_bytes(encode(status))
    fresh.replace(data / STATUS)
