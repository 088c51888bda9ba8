"""``outboxd plugin new``: what it writes works as it is, and nothing is ever overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Run

Process = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("name", ["billing", "card_payments"])
def test_a_new_plugin_passes_its_own_test_and_the_check(
    workplace: Path, outboxd: Process, name: str
) -> None:
    made = outboxd("plugin", "new", name)
    assert made.returncode == 0, made.stderr
    files = [f"plugins/{name}/{file}" for file in ("messages.py", "__init__.py", f"test_{name}.py")]
    assert made.stdout.splitlines() == files
    assert f"next: pytest plugins/{name}" in made.stderr
    checked = outboxd("plugin", "check")
    assert (checked.returncode, checked.stdout) == (0, f"1 participant fits: {name}\n")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "plugins"],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
    proved = outboxd("prove", "--faults", "1", "--random", "0")
    assert proved.returncode == 0, proved.stdout
    assert "everything holds" in proved.stdout


def test_two_new_plugins_live_side_by_side(workplace: Path, outboxd: Process) -> None:
    for name in ("billing", "stock"):
        assert outboxd("plugin", "new", name, "--into", "services").returncode == 0
    done = outboxd("run", "services", "--until-idle")
    assert done.returncode == 0, done.stderr
    assert "outboxd hosts billing, stock;" in done.stderr


def test_nothing_is_overwritten(workplace: Path, run: Run) -> None:
    folder = workplace / "plugins/billing"
    assert run("plugin", "new", "billing", "--json").exit_code == 0
    (folder / "messages.py").write_text("# mine")
    again = run("plugin", "new", "billing")
    assert again.exit_code == 4
    assert "is there already" in again.stderr
    assert (folder / "messages.py").read_text() == "# mine"
    (workplace / "plugins/mail.py").write_text("# mine")
    assert run("plugin", "new", "mail").exit_code == 4
    assert not (workplace / "plugins/mail").exists()


def test_its_files_are_named_as_json(run: Run) -> None:
    document = json.loads(run("plugin", "new", "billing", "--json").stdout)
    assert document["name"] == "billing"
    assert len(document["files"]) == 3


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Bill-Ing", "such as bill_ing"),
        ("9", "use lower case letters"),
        ("", "use lower case letters"),
        ("../x", "such as x"),
        ("class", "such as class_service"),
        ("control", "such as control_service"),
        ("a" * 41, "use lower case letters"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_with_a_better_one(
    workplace: Path, run: Run, name: str, hint: str
) -> None:
    result = run("plugin", "new", name)
    assert result.exit_code == 2
    assert hint in result.stderr
    assert not (workplace / "plugins").exists()
