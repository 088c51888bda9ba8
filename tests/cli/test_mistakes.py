"""What people mistype, and where they put outboxd: told in a line or two, with no traceback."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from outboxd import Command, __version__
from outboxd.monitor import Monitor
from outboxd.store.control import CatalogEntry
from tests.cli import filling
from tests.cli.conftest import ROOT, Run
from tests.cli.test_terminal import on_terminal
from tests.conftest import wait_until

Process = Callable[..., "subprocess.CompletedProcess[str]"]


class Order(Command[None], to="orders", key="id"):
    id: str
    cents: int
    zone: str = "N1"


@pytest.fixture
def orders(shop: Path) -> Path:
    """A shop that has written down what an order looks like; no daemon runs."""
    schema = msgspec.json.encode(msgspec.json.schema(Order))
    filling.catalog(
        shop,
        CatalogEntry(
            type="Order", participant="orders", kind="command", key_field="id", schema=schema
        ),
    )
    return shop


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ('{"id": "1", "cents": "5"}', "Order: Expected `int`, got `str` - at `$.cents`"),
        ('{"id": 1, "cents": 5}', "Order: Expected `str`, got `int` - at `$.id`"),
        ('{"id": "1"}', "Order: Object missing required field `cents`"),
        ("", "Order: Object missing required field `id`"),
    ],
)
def test_what_does_not_fit_is_refused_while_outboxd_is_down(
    orders: Path, run: Run, payload: str, said: str
) -> None:
    result = run("send", "Order", payload)
    assert result.exit_code == 4
    assert (
        result.stderr
        == f"error: {said}\nhint: Order takes id: string, cents: integer, zone: string?\n"
    )
    with Monitor(orders) as monitor:
        assert monitor.requests() == []


def test_what_fits_is_queued_with_its_key_filled_in(orders: Path, run: Run) -> None:
    assert run("send", "Order", '{"cents": 5, "new": true}', "--key", "7").exit_code == 0


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("why 1043", "did you mean 10431"),
        ("why 10431x", "did you mean 10431?"),
        ("why orders/fulfil/10432", "did you mean orders/fulfil/10431"),
        ("why orders/fulfil/1043#2", "did you mean orders/fulfil/10431"),
        ("saga show 1O431", "did you mean 10431?"),
        ("saga cancel 104311 --reason x --yes", "did you mean 10431"),
        ("saga show zebra", "outboxd saga list shows them"),
        ("dead show payment/d-1", "did you mean payments/d-1?"),
        ("dead show payments/d-99", "the last one of payments is d-1"),
        ("dead replay orders/d-99", "orders has none"),
        ("pause paymets --reason x", "did you mean payments?"),
        ("resume paymets", "did you mean payments?"),
        ("trust ordres --reason x", "did you mean orders?"),
        ("subscriber remove x --from ordres --reason x", "did you mean orders?"),
    ],
)
def test_a_name_that_is_not_here_is_answered_with_the_nearest(
    shop: Path, run: Run, command: str, hint: str
) -> None:
    result = run(*command.split())
    assert result.exit_code == 3, result.stderr
    error, said = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert said.startswith(f"hint: {hint}")


def test_an_operation_that_is_not_here_is_answered_with_the_nearest(shop: Path, run: Run) -> None:
    done = run("saga", "cancel", "10431", "--reason", "twice", "--yes")
    op_id = done.stdout.split()[0]
    missed = run("op", "show", op_id[:-1])
    assert missed.exit_code == 3
    assert f"hint: did you mean {op_id}?" in missed.stderr


def test_nothing_is_queued_for_what_has_ended(shop: Path, run: Run) -> None:
    cancelled = run("saga", "cancel", "10300", "--reason", "late", "--yes")
    assert (cancelled.exit_code, cancelled.stdout) == (4, "")
    assert cancelled.stderr == "error: orders/fulfil/10300 has ended: completed\n"
    with filling.store(shop, "payments") as connection:
        connection.execute("UPDATE outboxd_dead SET state = 'discarded', settled_at = at")
    replayed = run("dead", "replay", "d-1")
    assert (replayed.exit_code, replayed.stdout) == (4, "")
    assert replayed.stderr == "error: payments/d-1 was discarded already\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("command", ["saga list", "dead list", "message list"])
def test_a_list_that_is_not_whole_says_so_in_a_pipe_as_well(
    shop: Path, run: Run, command: str, form: list[str]
) -> None:
    with filling.store(shop, "payments") as connection:
        filling.letter(connection, "another")
    result = run(*command.split(), "--limit", "1", *form)
    assert result.exit_code == 0
    assert "--limit N shows more" in result.stderr
    assert "--limit" not in result.stdout
    assert "--limit" not in run(*command.split()).stderr


def test_nothing_is_waited_for_while_outboxd_is_down(shop: Path, run: Run) -> None:
    result = run("dead", "replay", "d-1", "--wait")
    assert result.exit_code == 1
    assert "queued; it is applied as soon as outboxd runs" in result.stderr
    assert "failed again" not in result.stderr


def test_a_daemon_of_another_version_is_named(shop: Path) -> None:
    with filling.daemon(shop, version="9.9.9"):
        _, said = on_terminal("status", env={"NO_COLOR": "1"})
    assert f"9.9.9, this command is {__version__}" in " ".join(said.split())
    with filling.daemon(shop, version=__version__):
        _, said = on_terminal("status", env={"NO_COLOR": "1"})
    assert "this command is" not in said


def test_many_letters_are_looked_at_by_their_causes(shop: Path) -> None:
    _, few = on_terminal("status", env={"NO_COLOR": "1"})
    assert "next       outboxd dead list\r\n" in few
    with filling.store(shop, "payments") as connection:
        for n in range(9):
            filling.letter(connection, f"more-{n}")
    _, many = on_terminal("status", env={"NO_COLOR": "1"})
    assert "next       outboxd dead list --group\r\n" in many
    _, groups = on_terminal("dead", "list", "--group", env={"NO_COLOR": "1"})
    assert "outboxd dead replay --filter handler:payments.authorize --first 5 --wait" in groups


def test_a_full_disk_is_what_the_status_says(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with filling.daemon(shop, at=filling.now() - 11):
        result = run("status", "--check")
    assert result.exit_code == 1
    said = (
        "unhealthy: the disk of outboxd-data is full: nothing can be written, and nothing is lost; "
    )
    assert result.stdout.startswith(f"{said}the daemon (pid ")
    assert "has said nothing for" in result.stdout


def test_a_sign_that_the_terminal_has_not_becomes_a_plain_one(shop: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "outboxd", "why", "10431"],
        capture_output=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "latin-1",
            "PYTHONUTF8": "0",
        },
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"orders/fulfil/10431  x stuck")


def test_a_name_in_another_encoding_is_not_found_and_no_bug(shop: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "outboxd", "why", b"\xf6rder"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0"},
        timeout=50,
    )
    assert done.returncode == 3, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_caller_that_closed_the_output_is_no_error(shop: Path) -> None:
    command = f"exec {sys.executable} -m outboxd saga list >&-"
    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["status", "saga list"])
def test_a_file_of_another_version_is_named(shop: Path, run: Run, command: str) -> None:
    with filling.store(shop, "orders") as connection:
        connection.execute("ALTER TABLE outboxd_saga RENAME COLUMN key TO name_of_old")
        connection.execute("ALTER TABLE outboxd_call RENAME COLUMN kind TO sort_of_old")
    result = run(*command.split())
    assert result.exit_code == 5
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: orders.db was written by another version of outboxd: no such")
    assert hint.startswith("hint: `outboxd run` brings an older file up to date")


SLOW = """
import anyio
from outboxd import Command, Context, Participant

class Wait(Command[None], to="slow"):
    pass

slow = Participant("slow")

@slow.handle
async def wait(ctx: Context, cmd: Wait) -> None:
    await anyio.sleep(9)
"""


class OnTerminal:
    """A process that has a terminal for everything, and what it has written there."""

    def __init__(self, *args: str, folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.child = subprocess.Popen(
            [sys.executable, "-m", "outboxd", *args],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": "1"},
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._output = b""

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    @property
    def output(self) -> str:
        try:
            while piece := os.read(self._ours, 65536):
                self._output += piece
        except OSError:  # nothing more now, or for ever
            pass
        return self._output.decode()

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self._ours)


@pytest.fixture
def slow(workplace: Path) -> Iterator[OnTerminal]:
    (workplace / "slow.py").write_text(SLOW)
    terminal = OnTerminal("run", "slow.py", folder=workplace)
    yield terminal
    terminal.close()


@pytest.mark.anyio
async def test_a_second_ctrl_c_leaves_a_whole_line_behind(
    slow: OnTerminal, data: Path, outboxd: Process
) -> None:
    await wait_until(lambda: (data / "daemon.json").exists(), "the daemon says that it lives")
    assert outboxd("send", "Wait", "{}").returncode == 0
    slow.press(b"\x03")
    await wait_until(lambda: "again to stop now" in slow.output, "the first Ctrl-C is answered")
    slow.press(b"\x03")
    await wait_until(lambda: slow.child.poll() is not None, "the second Ctrl-C ends it")
    assert slow.child.returncode == 130
    *_, last = slow.output.removesuffix("\r\n").rsplit("\x1b[K", 1)
    assert slow.output.endswith("\r\n")
    assert " ".join(last.split()) == (
        "stopped at once; what was committed is safe, the rest is done at the next start"
    )


def test_a_number_that_no_letter_can_have_is_no_letter(shop: Path, run: Run) -> None:
    result = run("dead", "show", f"d-{10**25}")
    assert (result.exit_code, "Traceback" in result.stderr) == (2, False)
    assert "they are called d-7 or payments/d-7" in result.stderr
