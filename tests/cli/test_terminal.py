"""Whole processes: exit codes, pipes, and what stands on a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from outboxd.store import pausing
from tests.cli import filling
from tests.cli.conftest import ROOT
from tests.cli.filling import store

Process = Callable[..., "subprocess.CompletedProcess[str]"]

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


SIZE = ("COLUMNS", "LINES")
"""They count for more than the terminal that is there."""


def on_terminal(
    *args: str, columns: int = 80, keys: bytes = b"", env: dict[str, str] | None = None
) -> tuple[int, str]:
    """(exit code, output) of a command that has a terminal for everything."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in SIZE}
    environ = {**inherited, "PYTHONPATH": str(ROOT), "TERM": "xterm", **(env or {})}
    command = [sys.executable, "-m", "outboxd", *args]
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the terminal is gone: its last user has ended
            break
        output += piece
        if keys and b"[y/N]" in output:
            os.write(ours, keys)
            keys = b""
    os.close(ours)
    return child.wait(timeout=50), output.decode()


@pytest.mark.parametrize(
    "command",
    ["status", "saga list", "saga show 10431", "dead list", "dead list --group", "dead show d-1"],
)
@pytest.mark.parametrize("columns", [80, 120])
def test_what_is_shown_fits_the_terminal(shop: Path, command: str, columns: int) -> None:
    code, output = on_terminal(*command.split(), columns=columns)
    assert code == 0
    lines = _ESCAPES.sub("", output).splitlines()
    assert max(map(len, lines)) <= columns, output
    assert "10431" in output or command in ("status", "dead list --group")


def test_a_key_is_whole_where_anything_else_can_be_cut(shop: Path) -> None:
    key = "customer-4711-0b6f2c1e-4c1e-4f0a"
    with store(shop, "orders") as connection:
        connection.execute(
            "UPDATE outboxd_saga SET id = ?, key = ? WHERE id = 'orders/fulfil/10431'",
            (f"orders/fulfil/{key}", key),
        )
    with store(shop, "payments") as connection:
        connection.execute("UPDATE outboxd_dead SET key = ?", (key,))
    for command in (("saga", "list"), ("dead", "list")):
        _, output = on_terminal(*command)
        assert key in output
        assert max(map(len, _ESCAPES.sub("", output).splitlines())) <= 80


def test_a_terminal_gets_a_table_with_glyph_word_and_colour(shop: Path) -> None:
    _, output = on_terminal("saga", "list")
    head, first, *_ = output.splitlines()
    assert _ESCAPES.sub("", head).split() == ["SAGA", "STATE", "STEP", "NEXT", "LAST", "ERROR"]
    assert "\x1b[31m✗ stuck" in first


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(shop: Path, env: dict[str, str]) -> None:
    _, output = on_terminal("saga", "list", env=env)
    assert "\x1b" not in output
    assert "✗ stuck" in output
    _, error = on_terminal("saga", "show", "x", env=env)
    assert error.startswith("error: there is no saga x")


def test_a_pause_is_seen_in_the_status(shop: Path) -> None:
    with store(shop, "payments") as connection:
        pausing.put(connection, pausing.Pause(filling.now() - 60, "ada", "the bank is closed"))
    _, output = on_terminal("status", env={"NO_COLOR": "1"})
    [line] = [line for line in output.splitlines() if line.startswith("paused ")]
    assert line.startswith("paused     payments by ada for ")
    assert line.endswith(": the bank is closed")
    assert "next       outboxd resume" in output


def test_a_person_is_asked_and_may_decline(shop: Path) -> None:
    args = ("saga", "cancel", "10431", "--reason", "twice")
    declined, output = on_terminal(*args, keys=b"n\n")
    assert declined == 130
    assert "Cancel orders/fulfil/10431 and undo what it did? [y/N]" in output
    agreed, output = on_terminal(*args, keys=b"y\n")
    assert agreed == 0
    assert "pending" in output
    assert "queued; it is applied as soon as outboxd runs" in output


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ("saga list", 0),
        ("status --check", 1),
        ("saga list --data nowhere", 2),
        ("zebra", 2),
        ("saga show zebra", 3),
        ("saga cancel 10431", 4),
    ],
)
def test_exit_codes_of_real_processes(shop: Path, outboxd: Process, args: str, code: int) -> None:
    done = outboxd(*args.split())
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (done.stderr == "") == (code in (0, 1))


def test_a_database_that_does_not_answer_exits_5(shop: Path, outboxd: Process) -> None:
    with store(shop, "orders") as connection:
        [size] = connection.execute("PRAGMA page_size").fetchone()
        [page] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'outboxd_saga'"
        ).fetchone()
    with (shop / "orders.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    done = outboxd("saga", "list")
    assert done.returncode == 5
    assert done.stderr.startswith("error: orders.db: ")


def test_a_reader_that_leaves_is_no_error(shop: Path) -> None:
    """``outboxd … | head -1``."""
    command = [sys.executable, "-m", "outboxd", "saga", "list", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            command,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=50,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_reading_loads_neither_dashboard_broker_nor_event_loop(shop: Path) -> None:
    code = (
        "import sys\n"
        "from outboxd.cli import cli\n"
        "try: cli.main(['dead', 'list'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "'sqlite3'" in done.stderr
    for name in ("redis", "textual", "uvloop", "hiredis"):
        assert f"'{name}'" not in done.stderr
