"""``outboxd db``, ``message``, ``dead export`` and ``completion``: reading what is there."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli import filling
from tests.cli.conftest import ROOT, Run
from tests.cli.filling import store
from tests.cli.test_terminal import on_terminal

Process = Callable[..., "subprocess.CompletedProcess[str]"]


# Databases.


def test_the_databases_are_listed_with_their_files(shop: Path, run: Run) -> None:
    rows = json.loads(run("db", "list", "--json").stdout)
    assert [row["name"] for row in rows] == ["control", "orders", "payments"]
    assert all(Path(row["path"]).stat().st_size == row["bytes"] for row in rows)
    code, output = on_terminal("db", "list")
    assert (code, output.count("\n")) == (0, 4)


def test_a_backup_is_made_while_another_process_writes(shop: Path, run: Run) -> None:
    with store(shop, "orders") as connection:
        filling.saga(connection, "under-way")  # not committed while the copy is made
        result = run("db", "backup", "copy", "--json")
        assert result.exit_code == 0, result.output
    copies = json.loads(result.stdout)
    assert [copy["name"] for copy in copies] == ["control", "orders", "payments"]
    assert sorted(path.name for path in Path("copy").iterdir()) == [
        "control.db",
        "orders.db",
        "payments.db",
    ]
    assert Path("copy/orders.db").stat().st_mode & 0o077 == 0
    assert run("saga", "show", "10431", "--data", "copy").exit_code == 0
    assert run("saga", "show", "under-way", "--data", "copy").exit_code == 3
    assert run("audit", "--data", "copy").exit_code == 0


def test_a_backup_never_overwrites(shop: Path, run: Run) -> None:
    assert run("db", "backup", "copy").exit_code == 0
    again = run("db", "backup", "copy")
    assert again.exit_code == 4
    assert "copy is not empty" in again.stderr
    Path("file").write_text("")
    assert run("db", "backup", "file").exit_code == 4
    assert run("db", "backup", "/proc/no").exit_code == 2


def test_a_check_finds_a_damaged_page(shop: Path, run: Run) -> None:
    assert run("db", "check").exit_code == 0
    path = shop / "payments.db"
    with closing(sqlite3.connect(path)) as connection:
        [page] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'outboxd_dead'"
        ).fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    result = run("db", "check", "--json")
    assert result.exit_code == 1
    damages = json.loads(result.stdout)
    assert (damages["orders"], bool(damages["payments"])) == ([], True)


def test_where_outboxd_never_ran_there_is_nothing_to_back_up(workplace: Path, run: Run) -> None:
    for command in (("db", "list"), ("db", "check"), ("db", "backup", "copy")):
        assert run(*command).exit_code == 2
    assert not Path("copy").exists()


# Messages.


def test_messages_under_way_are_listed_trouble_first(shop: Path, run: Run) -> None:
    rows = json.loads(run("message", "list", "--json").stdout)
    assert rows[0]["state"] == "retrying"
    assert rows[0]["id"] == "orders/fulfil/10519#2"
    assert {"running", "queued", "sending"} <= {row["state"] for row in rows}
    some = run("message", "list", "--filter", "state:running")
    assert some.stdout.startswith("orders/fulfil/10530#2\tAuthorizePayment\tpayments\trunning")
    _, output = on_terminal("message", "list")
    assert "orders/fulfil/10519#2" in output
    assert max(map(len, output.replace("\x1b", "").splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "state"), [("orders/fulfil/10519#2", "retrying"), ("payments-8", "sent")]
)
def test_a_message_is_shown_with_what_is_in_it(shop: Path, run: Run, name: str, state: str) -> None:
    document = json.loads(run("message", "show", name, "--json").stdout)
    assert document["why"]["state"] == state
    assert document["message"]["envelope"]["type"] == "AuthorizePayment"
    assert document["message"]["data"] == {"order_id": "1"}
    page = run("message", "show", name).stdout
    assert '"order_id": "1"' in page
    assert run("message", "show", "zebra").exit_code == 3


# Letters.


def test_letters_are_exported_one_a_line(shop: Path, run: Run) -> None:
    with store(shop, "payments") as connection:
        filling.letter(connection, "other", key="2")
    lines = [json.loads(line) for line in run("dead", "export").stdout.splitlines()]
    assert [line["letter"]["name"] for line in lines] == ["d-1", "d-2"]
    assert lines[0]["data"] == {"order_id": "1"}
    assert len(lines[0]["attempts"]) == 3
    one = run("dead", "export", "d-2", "--to", "letters.jsonl")
    assert (one.stdout, one.stderr) == ("", "1 letter exported\n")
    assert json.loads(Path("letters.jsonl").read_text())["letter"]["name"] == "d-2"
    assert run("dead", "export", "--filter", "key:10431").stdout.count("\n") == 1
    assert run("dead", "export", "d-9").exit_code == 3
    assert run("dead", "export", "--to", "/no/where").exit_code == 2


# Completion.


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_OUTBOXD_COMPLETE" in result.stdout


def test_commands_are_completed(workplace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "outboxd"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_OUTBOXD_COMPLETE": "bash_complete",
            "COMP_WORDS": "outboxd dead re",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stdout == "plain,replay\n"
